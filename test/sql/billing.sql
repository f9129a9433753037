-- billing.sql: money as people meet it: a price, a quote, a top-up, a hold captured in two parts and released, a refund; what is refused, with
-- its detail and hint; and the ledger that tells it all. The rules one by one are in test/pgtap/billing.sql.

\set VERBOSITY default
\set SHOW_CONTEXT never
SET client_min_messages = warning;

CREATE ROLE regress_payer;
GRANT goya_user TO regress_payer;
SELECT goya.create_tenant('regress-bill') IS NOT NULL AS made;
SELECT goya.add_member('regress_payer', 'regress-bill', 'admin');

-- the platform: prices and money
SELECT name, unit, amount, per_units, currency FROM goya.set_price('regress-frame', 10000000, tenant => 'regress-bill');
SELECT name, unit, amount, per_units, currency FROM goya.set_price('regress-llm', 3000000000, 'token_in', 1000000);
SELECT name, unit, amount, per_units, currency FROM goya.set_price('regress-llm', 15000000000, 'token_out', 1000000);
SELECT goya.set_price('regress-llm', 1, effective_at => '2000-01-01');
SELECT seq, kind, amount, balance_after, frozen_after FROM goya.top_up(1000000000, 'order-1', 'regress-bill');
SELECT seq, kind, amount, balance_after, frozen_after FROM goya.top_up(1000000000, 'order-1', 'regress-bill');
SELECT goya.top_up(2000000000, 'order-1', 'regress-bill');

-- the tenant
SET ROLE regress_payer;
SELECT goya.top_up(1, 'order-2');
SELECT tenant, currency, balance, frozen FROM goya.wallet_summary;
SELECT reference, amount, captured, status FROM goya.hold(800000000, 'job-1', 'a night of rendering');
SELECT goya.hold(800000000, 'job-2');
SELECT kind, amount, balance_after, frozen_after FROM goya.capture('job-1', 300000000, 'job-1-a');
SELECT kind, amount, balance_after, frozen_after FROM goya.capture('job-1', 100000000, 'job-1-b');
SELECT kind, amount, balance_after, frozen_after FROM goya.capture('job-1', 100000000, 'job-1-b');
SELECT goya.capture('job-1', 500000000, 'job-1-c');
SELECT kind, moved, balance_after, frozen_after FROM goya.release('job-1', 'job-1-end');
SELECT goya.capture('job-1', 1, 'job-1-late');
SELECT goya.capture('job-9', 1, 'job-9-a');
SELECT kind, amount, balance_after, note FROM goya.refund('job-1-a', 200000000, 'sorry', 'half of it was black');
SELECT goya.refund('job-1-a', 200000000, 'sorry-again');
UPDATE goya.wallet_entries SET amount = 0;
DELETE FROM goya.wallets;

-- what it all says
SELECT seq, kind, amount, moved, balance_after, frozen_after, reference, note FROM goya.wallet_entries ORDER BY seq;
SELECT balance, frozen, topped_up, granted, captured, refunded, open_holds FROM goya.wallet_summary;
RESET ROLE;
SELECT code, detail FROM goya_private.check_billing();

-- not even the owner of the tables
SET ROLE goya_owner;
UPDATE goya.wallet_entries SET amount = 0;
DELETE FROM goya.usage_records;
TRUNCATE goya.prices;
RESET ROLE;

SELECT goya.remove_member('regress_payer');
DROP ROLE regress_payer;
