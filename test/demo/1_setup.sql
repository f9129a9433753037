-- 1_setup.sql: what an administrator does once: a role for the team, prices, money in the wallet.
\set QUIET on
SET client_min_messages = warning;
CREATE EXTENSION pg_cron;
CREATE EXTENSION goya;
-- The service of this demo is on loopback, which goya calls only when an administrator allows it.
ALTER SYSTEM SET goya.http_allow_loopback = on;
SELECT pg_reload_conf() \g /dev/null

CREATE ROLE studio;
GRANT goya_user TO studio;
CREATE SCHEMA studio AUTHORIZATION studio;

-- In nano-units: 1000000000 is one dollar.
SELECT goya.set_price('probe', 20000000), goya.set_price('scenes', 10000000, 'second'), goya.set_price('analyse', 50000000),
       goya.set_price('preview', 5000000, 'second') \g /dev/null
\echo
\echo '== the wallet is topped up'
SELECT kind, round(amount / 1e9, 3) AS usd, reference FROM goya.top_up(20000000000, 'order-1001', note => 'first recharge');
