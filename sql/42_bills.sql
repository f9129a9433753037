-- 42_bills.sql: reading what was used and paid. The reconciliation of all money is in 63_check_money.sql.
--
-- Decided: views run as their reader, so row-level security decides.

CREATE VIEW goya.bill_details WITH (security_invoker = true) AS
    SELECT u.task_id, w.name AS workflow, u.node, u.item, u.attempt, u.price_name AS price, u.unit, u.quantity, u.cost, u.currency, u.estimated,
           u.cost_tag, u.trace_id, u.created_at, u.tenant_id
    FROM goya.usage_records u LEFT JOIN goya.tasks t ON t.id = u.task_id LEFT JOIN goya.workflows w ON w.id = t.workflow_id;
COMMENT ON VIEW goya.bill_details IS
'What each node run used and cost, a line per unit; cost is nano-units of currency.
Example: SELECT workflow, node, sum(cost) FROM goya.bill_details GROUP BY 1, 2;';

CREATE VIEW goya.bill_summary WITH (security_invoker = true) AS
    SELECT (u.created_at AT TIME ZONE 'UTC')::date AS day, w.name AS workflow, u.cost_tag, count(*) FILTER (WHERE u.line = 1) AS node_runs,
           sum(u.cost)::bigint AS cost, coalesce(sum(u.cost) FILTER (WHERE u.estimated), 0)::bigint AS estimated_cost, u.currency, u.tenant_id
    FROM goya.usage_records u LEFT JOIN goya.tasks t ON t.id = u.task_id LEFT JOIN goya.workflows w ON w.id = t.workflow_id
    GROUP BY 1, w.id, w.name, u.cost_tag, u.currency, u.tenant_id;
COMMENT ON VIEW goya.bill_summary IS
'What was used, summed by day (UTC), workflow and cost_tag of the nodes: cost and the part of it that was estimated, in nano-units of currency.
cost_tag is null where nodes have none; node_runs are priced runs, failed ones that used something included.
Example: SELECT cost_tag, sum(cost) FROM goya.bill_summary WHERE day >= date_trunc(''month'', now()) GROUP BY 1;';

CREATE VIEW goya.wallet_summary WITH (security_invoker = true) AS
    SELECT w.id AS wallet_id, t.name AS tenant, w.currency, w.balance, w.frozen, e.topped_up, e.granted, e.captured, e.refunded, h.open_holds,
           e.entries, e.last_entry_at, w.tenant_id
    FROM goya.wallets w
    LEFT JOIN goya.tenants t ON t.id = w.tenant_id
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(x.amount) FILTER (WHERE x.kind = 'top_up'), 0) AS topped_up,
               coalesce(sum(x.amount) FILTER (WHERE x.kind = 'grant'), 0) AS granted,
               coalesce(-sum(x.amount) FILTER (WHERE x.kind = 'capture'), 0) AS captured,
               coalesce(sum(x.amount) FILTER (WHERE x.kind = 'refund'), 0) AS refunded,
               count(*) AS entries, max(x.created_at) AS last_entry_at
        FROM goya.wallet_entries x WHERE x.tenant_id = w.tenant_id) e
    CROSS JOIN LATERAL (SELECT count(*) AS open_holds FROM goya.holds x WHERE x.tenant_id = w.tenant_id AND x.status = 'open') h;
COMMENT ON VIEW goya.wallet_summary IS
'Wallets with totals by kind of entry, in nano-units.
balance + frozen = topped_up + granted + refunded - captured. What running tasks have used so far is captured when they end; goya.holds has it now.';
