-- 40_billing.sql: money as people move it: top_up, grant_credit, hold, capture, release, refund, prices, quote; and the append-only guards.
--
-- Decided:
-- * Amounts are bigint nano-units (10^-9) of the wallet's currency. A price in another currency does not apply to the tenant.
-- * Every operation of people carries a reference, claimed first in billing_references with a hash of the request: the same
--   reference and request gives the first result again, also to two sessions at once; another request is 23505. References that
--   begin with "task:" are goya's own: task:<id> (hold), task:<id>:hold:<amount>, task:<id>:capture, task:<id>:release.
-- * Lock order: reference, then holds by id, then wallets by id. The wallet row is last, and it is what orders wallet_entries.seq.
-- * Prices are pinned when a task starts: rows are never changed, set_price refuses the past, and a task's hold remembers the newest
--   generation of prices that was committed. Time alone would not do: a price may be committed long after the time it carries.
-- * A cost is rounded once per usage row, half up, by exact integer division of numerics.
-- Must hold: goya_private.check_billing() (63_check_money.sql) returns no row, at any moment, for any snapshot.

CREATE INDEX prices_lookup_idx ON goya.prices (name, unit, tenant_id, currency, effective_at);
CREATE INDEX wallet_entries_refund_idx ON goya.wallet_entries (capture_id) WHERE capture_id IS NOT NULL;

-- ---- Append-only ----

CREATE FUNCTION goya_private.refuse_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = '42501',
        MESSAGE = pg_catalog.format('rows of goya.%s cannot be changed', TG_TABLE_NAME),
        DETAIL = pg_catalog.format('%s is refused: the table is append-only for every role.', TG_OP),
        HINT = CASE TG_TABLE_NAME WHEN 'wallet_entries' THEN 'Correct money with another entry: goya.refund or goya.grant_credit.'
                                  WHEN 'prices' THEN 'Set another price from a later time with goya.set_price.'
                                  ELSE 'Add a row that corrects it.' END;
END;
$$;

DO $$
DECLARE
    append_only text;
BEGIN
    FOREACH append_only IN ARRAY ARRAY['wallet_entries', 'usage_records', 'prices', 'events'] LOOP
        EXECUTE pg_catalog.format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON goya.%I
            FOR EACH STATEMENT EXECUTE FUNCTION goya_private.refuse_change()', append_only);
    END LOOP;
END;
$$;

-- Tells every process to read prices again, also when a restore writes them.
CREATE FUNCTION goya_private.prices_changed() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'goya_prices_changed_sql';
CREATE TRIGGER prices_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON goya.prices
    FOR EACH STATEMENT EXECUTE FUNCTION goya_private.prices_changed();
ALTER TABLE goya.prices ENABLE ALWAYS TRIGGER prices_changed;

-- ---- Shared by what people call ----

-- The tenant an operation is for: the caller's own, or, for administrators, the one named.
CREATE FUNCTION goya_private.billing_tenant(tenant text) RETURNS uuid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    result uuid;
BEGIN
    IF tenant IS NULL THEN
        RETURN goya_private.require_tenant();
    END IF;
    SELECT t.id INTO result FROM goya.tenants t WHERE t.name = tenant;
    IF result IS NULL THEN
        PERFORM goya_private.not_found('tenant', tenant, 'SELECT name FROM goya.tenants lists them.');
    END IF;
    RETURN result;
END;
$$;

CREATE FUNCTION goya_private.require_amount(amount bigint) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF amount IS NULL OR amount <= 0 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'amount must be positive',
            DETAIL = format('The amount is %s.', coalesce(amount::text, 'null')),
            HINT = 'Amounts are nano-units: 1000000000 is one unit of the currency.';
    END IF;
END;
$$;

-- Claims an operation's reference. Null: it is new, go on; otherwise the first result of the same request. Waits for another session
-- that is claiming the same one.
CREATE FUNCTION goya_private.claim_reference(tenant_id uuid, reference text, request jsonb, result jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    hash bytea := sha256(convert_to(request::text, 'UTF8'));
    first record;
BEGIN
    IF reference IS NULL OR length(reference) NOT BETWEEN 1 AND 200 OR reference LIKE 'task:%' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad reference',
            DETAIL = 'A reference has 1 to 200 characters and does not begin with "task:".',
            HINT = 'Use the id of the operation in your own records: a repeated call then changes nothing.';
    END IF;
    INSERT INTO goya_private.billing_references (tenant_id, reference, request_hash, result)
    VALUES (claim_reference.tenant_id, claim_reference.reference, hash, claim_reference.result)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    SELECT r.request_hash, r.result INTO STRICT first FROM goya_private.billing_references r
    WHERE r.tenant_id = claim_reference.tenant_id AND r.reference = claim_reference.reference;
    IF first.request_hash <> hash THEN
        RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = 'reference was used for another request',
            DETAIL = format('Reference "%s" belongs to an earlier operation with other arguments.', reference),
            HINT = 'Repeat the call with the same arguments, or choose a new reference.';
    END IF;
    RETURN first.result;
END;
$$;

-- A node that locks a wallet in a transaction with nodes of other tenants is undone, and runs again alone (src/alone.c).
CREATE FUNCTION goya_private.before_wallet_lock() RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'goya_before_wallet_lock_sql';

-- Moves money in one wallet and writes the entry. PT402 when the balance does not suffice. entry_id is given so that it can be
-- recorded before.
CREATE FUNCTION goya_private.post_entry(entry_id uuid, tenant_id uuid, kind text, balance_change bigint, frozen_change bigint,
    reference text, note text, hold_id uuid DEFAULT NULL, task_id uuid DEFAULT NULL, capture_id uuid DEFAULT NULL) RETURNS goya.wallet_entries
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    wallet goya.wallets;
    entry goya.wallet_entries;
BEGIN
    PERFORM goya_private.before_wallet_lock();
    UPDATE goya.wallets w
    SET balance = w.balance + balance_change, frozen = w.frozen + frozen_change, last_seq = w.last_seq + 1, updated_at = clock_timestamp()
    WHERE w.tenant_id = post_entry.tenant_id AND (balance_change >= 0 OR w.balance >= -balance_change)
    RETURNING w.* INTO wallet;
    IF NOT FOUND THEN
        SELECT w.* INTO wallet FROM goya.wallets w WHERE w.tenant_id = post_entry.tenant_id;
        RAISE EXCEPTION USING ERRCODE = 'PT402', MESSAGE = 'not enough balance',
            DETAIL = format('Needed: %s nano-units; available: %s.', -balance_change, coalesce(wallet.balance, 0)),
            HINT = 'Ask an administrator for goya.top_up, or release holds.';
    END IF;
    INSERT INTO goya.wallet_entries (id, wallet_id, seq, tenant_id, kind, amount, moved, balance_after, frozen_after, reference,
                                     hold_id, task_id, capture_id, note)
    VALUES (entry_id, wallet.id, wallet.last_seq, wallet.tenant_id, post_entry.kind, balance_change + frozen_change,
            CASE WHEN balance_change = -frozen_change THEN abs(balance_change) ELSE 0 END, wallet.balance, wallet.frozen,
            post_entry.reference, post_entry.hold_id, post_entry.task_id, post_entry.capture_id, post_entry.note)
    RETURNING * INTO entry;
    RETURN entry;
END;
$$;

-- The tenant's wallet, made at the first need. currency null: whatever it has, USD when new. A wallet without entries may change it.
CREATE FUNCTION goya_private.open_wallet(tenant_id uuid, currency text) RETURNS goya.wallets
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    wallet goya.wallets;
BEGIN
    IF currency !~ '^[A-Z]{3,8}$' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad currency',
            DETAIL = format('"%s" is not three to eight capital letters.', open_wallet.currency), HINT = 'For example USD, CNY or POINTS.';
    END IF;
    INSERT INTO goya.wallets (tenant_id, currency)
    VALUES (open_wallet.tenant_id, coalesce(open_wallet.currency, 'USD')) ON CONFLICT DO NOTHING;
    SELECT w.* INTO STRICT wallet FROM goya.wallets w WHERE w.tenant_id = open_wallet.tenant_id;
    IF open_wallet.currency IS NULL OR wallet.currency = open_wallet.currency THEN
        RETURN wallet;
    END IF;
    UPDATE goya.wallets w SET currency = open_wallet.currency
    WHERE w.id = wallet.id AND w.last_seq = 0 AND NOT EXISTS (SELECT FROM goya.holds h WHERE h.tenant_id = w.tenant_id)
    RETURNING w.* INTO wallet;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the wallet has another currency',
            DETAIL = 'A wallet keeps the currency of its first entry.', HINT = 'goya.wallets shows it.';
    END IF;
    RETURN wallet;
END;
$$;

CREATE FUNCTION goya_private.add_money(kind text, amount bigint, reference text, tenant text, currency text, note text)
    RETURNS goya.wallet_entries
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    owner uuid;
    entry_id uuid := goya.new_id();
    earlier jsonb;
    entry goya.wallet_entries;
BEGIN
    PERFORM goya_private.require_admin();
    PERFORM goya_private.require_amount(amount);
    owner := goya_private.billing_tenant(tenant);
    earlier := goya_private.claim_reference(owner, reference,
        jsonb_build_object('operation', kind, 'amount', amount, 'currency', currency, 'note', note), jsonb_build_object('entry', entry_id));
    IF earlier IS NOT NULL THEN
        SELECT e.* INTO STRICT entry FROM goya.wallet_entries e WHERE e.id = (earlier ->> 'entry')::uuid AND e.task_id IS NULL;
        RETURN entry;
    END IF;
    PERFORM goya_private.open_wallet(owner, currency);
    RETURN goya_private.post_entry(entry_id, owner, kind, amount, 0, reference, note);
END;
$$;

-- ---- Money in, holds ----

CREATE FUNCTION goya.top_up(amount bigint, reference text, tenant text DEFAULT NULL, currency text DEFAULT NULL, note text DEFAULT NULL)
    RETURNS goya.wallet_entries
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    RETURN goya_private.add_money('top_up', amount, reference, tenant, currency, note);
COMMENT ON FUNCTION goya.top_up(bigint, text, text, text, text) IS
'Adds paid money to a tenant''s wallet and returns the ledger entry.
amount: nano-units (1000000000 is one unit of the currency). tenant: its name; null is the caller''s. currency: null keeps the wallet''s; a new
wallet has USD unless it is named. Repeating the call with the same reference changes nothing and returns the same entry.
Errors: 42501 not an administrator, 22023 bad argument or another currency, PT404 unknown tenant, 23505 reference used for another request.
Example: SELECT * FROM goya.top_up(5000000000, ''order-1001'', note => ''first recharge'');';

CREATE FUNCTION goya.grant_credit(amount bigint, reference text, tenant text DEFAULT NULL, currency text DEFAULT NULL, note text DEFAULT NULL)
    RETURNS goya.wallet_entries
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    RETURN goya_private.add_money('grant', amount, reference, tenant, currency, note);
COMMENT ON FUNCTION goya.grant_credit(bigint, text, text, text, text) IS
'Adds money nobody paid (welcome credit, goodwill) to a tenant''s wallet and returns the ledger entry.
Arguments, idempotence and errors as goya.top_up; the entry''s kind is grant.
Example: SELECT * FROM goya.grant_credit(1000000000, ''welcome-acme'', tenant => ''acme'');';

CREATE FUNCTION goya.hold(amount bigint, reference text, note text DEFAULT NULL) RETURNS goya.holds
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    owner uuid := goya_private.require_writer();
    hold_id uuid := goya.new_id();
    wallet_id uuid;
    currency text;
    earlier jsonb;
    result goya.holds;
BEGIN
    PERFORM goya_private.require_amount(amount);
    earlier := goya_private.claim_reference(owner, reference,
        jsonb_build_object('operation', 'hold', 'amount', amount, 'note', note), jsonb_build_object('hold', hold_id));
    IF earlier IS NULL THEN
        SELECT w.id, w.currency INTO wallet_id, currency FROM goya.wallets w WHERE w.tenant_id = owner;
        -- Without a wallet post_entry is what refuses; the hold then goes with it.
        INSERT INTO goya.holds (id, wallet_id, tenant_id, reference, currency, amount)
        VALUES (hold_id, coalesce(wallet_id, owner), owner, hold.reference, coalesce(currency, 'USD'), hold.amount) RETURNING * INTO result;
        PERFORM goya_private.post_entry(goya.new_id(), owner, 'hold', -amount, amount, reference, note, hold_id);
        RETURN result;
    END IF;
    SELECT h.* INTO STRICT result FROM goya.holds h WHERE h.id = (earlier ->> 'hold')::uuid;
    RETURN result;
END;
$$;
COMMENT ON FUNCTION goya.hold(bigint, text, text) IS
'Sets money of the caller''s wallet aside, to be captured or released later by the same reference.
amount: nano-units, moved from balance to frozen. Repeating the call with the same reference holds nothing more and returns the same hold
as it is now. Tasks make their own holds.
Errors: PT402 not enough balance, 22023 bad argument, 23505 reference used for another request, 42501 no tenant.
Example: SELECT * FROM goya.hold(2000000000, ''job-7'');';

-- Locks a hold made by hand; PT404 when the tenant has none of that reference, 55000 when it belongs to a task or is settled.
CREATE FUNCTION goya_private.lock_hold(tenant_id uuid, reference text) RETURNS goya.holds
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    result goya.holds;
BEGIN
    SELECT h.* INTO result FROM goya.holds h
    WHERE h.tenant_id = lock_hold.tenant_id AND h.reference = lock_hold.reference AND h.task_id IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND AND NOT EXISTS (SELECT FROM goya.holds h WHERE h.tenant_id = lock_hold.tenant_id AND h.id =
                                 substring(lock_hold.reference FROM '^task:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$')::uuid) THEN
        PERFORM goya_private.not_found('hold', lock_hold.reference, 'SELECT reference FROM goya.holds lists them.');
    ELSIF result.id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'the hold belongs to a task',
            DETAIL = 'Holds of tasks are captured by their node runs and settled when the task ends.',
            HINT = 'To end a task early use goya.cancel; to give money back use goya.refund.';
    ELSIF result.status <> 'open' THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'the hold is settled',
            DETAIL = format('%s of %s nano-units were captured.', result.captured, result.amount),
            HINT = 'Make a new hold, or give money back with goya.refund.';
    END IF;
    RETURN result;
END;
$$;

CREATE FUNCTION goya.capture(hold_reference text, amount bigint, reference text, note text DEFAULT NULL) RETURNS goya.wallet_entries
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    owner uuid := goya_private.require_writer();
    entry_id uuid := goya.new_id();
    earlier jsonb;
    entry goya.wallet_entries;
    held goya.holds;
BEGIN
    PERFORM goya_private.require_amount(amount);
    earlier := goya_private.claim_reference(owner, reference,
        jsonb_build_object('operation', 'capture', 'hold', hold_reference, 'amount', amount, 'note', note), jsonb_build_object('entry', entry_id));
    IF earlier IS NOT NULL THEN
        SELECT e.* INTO STRICT entry FROM goya.wallet_entries e WHERE e.id = (earlier ->> 'entry')::uuid AND e.task_id IS NULL;
        RETURN entry;
    END IF;
    held := goya_private.lock_hold(owner, hold_reference);
    IF capture.amount > held.amount - held.posted THEN
        RAISE EXCEPTION USING ERRCODE = 'PT402', MESSAGE = 'not enough money in the hold',
            DETAIL = format('Needed: %s nano-units; held: %s.', capture.amount, held.amount - held.posted),
            HINT = 'Capture what is held, and hold more for the rest.';
    END IF;
    UPDATE goya.holds h
    SET captured = h.captured + capture.amount, posted = h.posted + capture.amount,
        status = CASE WHEN h.posted + capture.amount = h.amount THEN 'settled' ELSE 'open' END,
        settled_at = CASE WHEN h.posted + capture.amount = h.amount THEN clock_timestamp() END
    WHERE h.id = held.id;
    RETURN goya_private.post_entry(entry_id, owner, 'capture', 0, -capture.amount, reference, note, held.id);
END;
$$;
COMMENT ON FUNCTION goya.capture(text, bigint, text, text) IS
'Takes money out of a hold for good and returns the ledger entry.
hold_reference: of goya.hold. amount: nano-units, at most what is still held; several captures may share a hold, each with a reference of its
own. A hold that is used up is settled. Repeating the call with the same reference captures nothing more.
Errors: PT404 no such hold, PT402 more than is held, 55000 settled or a task''s hold, 22023 bad argument, 23505 reference used for another request.
Example: SELECT * FROM goya.capture(''job-7'', 500000000, ''job-7-part-1'');';

CREATE FUNCTION goya.release(hold_reference text, reference text) RETURNS goya.wallet_entries
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    owner uuid := goya_private.require_writer();
    entry_id uuid := goya.new_id();
    earlier jsonb;
    entry goya.wallet_entries;
    held goya.holds;
BEGIN
    earlier := goya_private.claim_reference(owner, reference,
        jsonb_build_object('operation', 'release', 'hold', hold_reference), jsonb_build_object('entry', entry_id));
    IF earlier IS NOT NULL THEN
        SELECT e.* INTO STRICT entry FROM goya.wallet_entries e WHERE e.id = (earlier ->> 'entry')::uuid AND e.task_id IS NULL;
        RETURN entry;
    END IF;
    held := goya_private.lock_hold(owner, hold_reference);
    UPDATE goya.holds h SET posted = h.amount, status = 'settled', settled_at = clock_timestamp() WHERE h.id = held.id;
    RETURN goya_private.post_entry(entry_id, owner, 'release', held.amount - held.posted, held.posted - held.amount, reference, NULL, held.id);
END;
$$;
COMMENT ON FUNCTION goya.release(text, text) IS
'Gives back what is left of a hold, which settles it, and returns the ledger entry.
hold_reference: of goya.hold. The entry''s moved is what went back to the balance. Repeating the call with the same reference changes nothing.
Errors: PT404 no such hold, 55000 settled or a task''s hold, 22023 bad argument, 23505 reference used for another request.
Example: SELECT * FROM goya.release(''job-7'', ''job-7-end'');';

-- Finds a capture of the tenant by its reference, by index: a person's by billing_references, a task's by its id.
CREATE FUNCTION goya_private.find_capture(tenant_id uuid, reference text) RETURNS goya.wallet_entries
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    task text := substring(reference FROM '^task:([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}):capture$');
    result goya.wallet_entries;
BEGIN
    IF task IS NOT NULL THEN
        SELECT e.* INTO result FROM goya.holds h JOIN goya.wallet_entries e ON e.tenant_id = h.tenant_id AND e.seq = h.capture_seq
        WHERE h.id = task::uuid AND h.tenant_id = find_capture.tenant_id;
    ELSE
        SELECT e.* INTO result FROM goya_private.billing_references r JOIN goya.wallet_entries e ON e.id = (r.result ->> 'entry')::uuid AND e.task_id IS NULL
        WHERE r.tenant_id = find_capture.tenant_id AND r.reference = find_capture.reference AND e.kind = 'capture';
    END IF;
    IF result.id IS NULL THEN
        PERFORM goya_private.not_found('capture', find_capture.reference,
                                       'Captures of tasks have the reference task:<id>:capture; goya.wallet_entries lists all.');
    END IF;
    RETURN result;
END;
$$;

CREATE FUNCTION goya.refund(entry_reference text, amount bigint, reference text, note text DEFAULT NULL) RETURNS goya.wallet_entries
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    owner uuid := goya_private.require_writer();
    entry_id uuid := goya.new_id();
    earlier jsonb;
    entry goya.wallet_entries;
    captured goya.wallet_entries;
    refunded numeric;
BEGIN
    IF goya.is_admin() IS NOT TRUE
       AND NOT EXISTS (SELECT FROM goya.members m
                       WHERE m.role_name = goya.current_caller() AND m.tenant_id = owner AND m.access = 'admin') THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'only an administrator may refund',
            DETAIL = format('Role "%s" is neither a member of goya_admin nor an admin of its tenant.', goya.current_caller()),
            HINT = 'Ask an administrator of the tenant.';
    END IF;
    PERFORM goya_private.require_amount(amount);
    earlier := goya_private.claim_reference(owner, reference,
        jsonb_build_object('operation', 'refund', 'of', entry_reference, 'amount', amount, 'note', note), jsonb_build_object('entry', entry_id));
    IF earlier IS NOT NULL THEN
        SELECT e.* INTO STRICT entry FROM goya.wallet_entries e WHERE e.id = (earlier ->> 'entry')::uuid AND e.task_id IS NULL;
        RETURN entry;
    END IF;
    captured := goya_private.find_capture(owner, entry_reference);
    -- The hold's row lock makes refunds of its captures take turns.
    PERFORM FROM goya.holds h WHERE h.id = captured.hold_id FOR NO KEY UPDATE;
    SELECT coalesce(sum(e.amount), 0) INTO refunded FROM goya.wallet_entries e WHERE e.capture_id = captured.id;
    IF refund.amount > -captured.amount - refunded THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'more than was captured',
            DETAIL = format('Captured: %s nano-units; refunded already: %s; asked: %s.', -captured.amount, refunded, refund.amount),
            HINT = 'Refund at most the difference; goya.grant_credit gives more.';
    END IF;
    RETURN goya_private.post_entry(entry_id, owner, 'refund', amount, 0, reference, note, captured.hold_id, captured.task_id, captured.id);
END;
$$;
COMMENT ON FUNCTION goya.refund(text, bigint, text, text) IS
'Gives captured money back to the wallet and returns the ledger entry.
entry_reference: of a capture, by goya.capture or task:<task id>:capture. amount: nano-units; all refunds of a capture together are at most
the capture. Administrators of the platform or the tenant. Repeating the call with the same reference changes nothing.
Errors: 42501 not an administrator, PT404 no such capture, 22023 bad argument or more than was captured, 23505 reference used for another request.
Example: SELECT * FROM goya.refund(''job-7-part-1'', 500000000, ''job-7-complaint'');';

-- ---- Prices and quotes ----

CREATE FUNCTION goya.set_price(name text, amount bigint, unit text DEFAULT 'request', per_units bigint DEFAULT 1, currency text DEFAULT 'USD',
    tenant text DEFAULT NULL, effective_at timestamptz DEFAULT NULL) RETURNS goya.prices
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    owner uuid;
    result goya.prices;
    problem text := CASE
        WHEN name IS NULL OR length(name) NOT BETWEEN 1 AND 200 THEN 'name must have 1 to 200 characters.'
        WHEN amount IS NULL OR amount < 0 THEN 'amount must not be negative.'
        WHEN unit IS NULL OR unit !~ '^[a-z][a-z0-9_]{0,62}$' THEN 'unit must be a lower-case word such as request, second or token_in.'
        WHEN per_units IS NULL OR per_units <= 0 THEN 'per_units must be positive.'
        WHEN currency IS NULL OR currency !~ '^[A-Z]{3,8}$' THEN 'currency must be three to eight capital letters.'
        WHEN effective_at < now() THEN 'effective_at lies in the past: tasks that have started keep the price they started with.'
        WHEN effective_at = 'infinity' THEN 'effective_at must be a time.'
    END;
BEGIN
    PERFORM goya_private.require_admin();
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad price', DETAIL = problem,
            HINT = 'Leave effective_at out for a price from now on.';
    END IF;
    IF tenant IS NOT NULL THEN
        owner := goya_private.billing_tenant(tenant);
    END IF;
    -- Generations are committed in order: whoever sets prices waits for whoever is setting some. Nobody who reads prices waits.
    LOCK TABLE goya.prices IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO goya.prices (tenant_id, name, unit, amount, per_units, currency, effective_at, generation)
    SELECT owner, set_price.name, set_price.unit, set_price.amount, set_price.per_units, set_price.currency,
           greatest(set_price.effective_at, clock_timestamp()), coalesce(max(p.generation), 0) + 1 FROM goya.prices p
    ON CONFLICT DO NOTHING RETURNING * INTO result;
    IF NOT FOUND THEN
        SELECT p.* INTO result FROM goya.prices p
        WHERE p.tenant_id IS NOT DISTINCT FROM owner AND p.name = set_price.name AND p.unit = set_price.unit
              AND p.effective_at = set_price.effective_at AND p.amount = set_price.amount AND p.per_units = set_price.per_units
              AND p.currency = set_price.currency;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = 'another price begins at that time',
                DETAIL = format('A price "%s" per %s with effective_at %s is set already.', set_price.name, set_price.unit, set_price.effective_at),
                HINT = 'Choose another effective_at: prices are not changed once set.';
        END IF;
    END IF;
    RETURN result;
END;
$$;
COMMENT ON FUNCTION goya.set_price(text, bigint, text, bigint, text, text, timestamptz) IS
'Sets what a name that nodes use in "price" costs, from a time on, and returns the price.
amount: nano-units of currency for per_units units: 3000000000 for 1000000 token_in is 3 per million. A quantity is multiplied and rounded
half up, once per usage record. tenant: for this tenant only, before the price for all. effective_at: null is now; never in the past. A task keeps the prices
in force when it started; prices in another currency than the wallet''s do not apply.
Errors: 42501 not an administrator, 22023 bad argument, PT404 unknown tenant, 23505 another price begins at that time.
Example: SELECT * FROM goya.set_price(''gpt'', 3000000000, ''token_in'', 1000000);';

-- Exact: quantity * amount / per_units in whole nano-units, half up. 22003 when it does not fit.
CREATE FUNCTION goya_private.cost(quantity numeric, amount bigint, per_units bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN div(2 * quantity * amount + per_units, 2::numeric * per_units)::bigint;

-- Prices of a name at a time, one row per unit: the tenant's own before everybody's, the newest that has begun.
CREATE FUNCTION goya_private.prices_in_force(tenant_id uuid, name text, currency text, at timestamptz) RETURNS SETOF goya.prices
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT DISTINCT ON (p.unit) p.* FROM goya.prices p
        WHERE p.name = prices_in_force.name AND (p.tenant_id = prices_in_force.tenant_id OR p.tenant_id IS NULL)
              AND p.currency = prices_in_force.currency AND p.effective_at <= prices_in_force.at
        ORDER BY p.unit, p.tenant_id IS NULL, p.effective_at DESC;
    END;

-- A template as a number, if it is one or reads nothing but the input: {{ input.path }}. Null: only the run knows.
CREATE FUNCTION goya_private.quote_value(template jsonb, input jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    path text;
BEGIN
    IF jsonb_typeof(template) <> 'string' THEN
        RETURN template;
    END IF;
    path := substring(template #>> '{}' FROM '^\{\{\s*(?:\$\.)?(input[.[][^{}]*?)\s*\}\}$');
    IF path IS NULL OR input IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN jsonb_path_query_first(jsonb_build_object('input', input), ('$.' || path)::jsonpath, silent => true);
EXCEPTION WHEN syntax_error OR data_exception THEN
    RETURN NULL;
END;
$$;

-- The node of the implementation that an algorithm's node would get now; no row when none is left.
CREATE FUNCTION goya_private.quote_chosen(tenant_id uuid, spec jsonb, OUT node jsonb) RETURNS SETOF jsonb
    LANGUAGE sql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT r.resolved #> '{nodes,0}'
        FROM goya_private.choose_candidate(quote_chosen.tenant_id, quote_chosen.spec) c
        JOIN goya.workflow_revisions r ON r.workflow_id = c.workflow_id AND r.revision = c.revision AND r.tenant_id = quote_chosen.tenant_id;
    END;

-- What the priced nodes of a definition will cost, as far as it is known before: a row per node and unit. A map's node counts as often as
-- the array has elements when it is in the input. Compensations are listed with quantity 0: they run only when a task fails. With children, what an
-- algorithm's implementation costs is there, too, of the one that would be chosen now: a task of its own with a hold of its own.
CREATE FUNCTION goya_private.quote_lines(tenant_id uuid, resolved jsonb, input jsonb, at timestamptz, children boolean,
    OUT node text, OUT price_name text, OUT unit text, OUT quantity numeric, OUT amount bigint, OUT currency text) RETURNS SETOF record
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
    wallet_currency text := coalesce((SELECT w.currency FROM goya.wallets w WHERE w.tenant_id = quote_lines.tenant_id), 'USD');
    missing record;
BEGIN
    FOR node, price_name, unit, quantity, amount, currency IN
        WITH RECURSIVE nodes AS (
            SELECT n.value AS spec, n.value ->> 'key' AS key, 1::numeric AS times, n.ordinality AS place, quote_lines.input AS known
            FROM jsonb_array_elements(CASE jsonb_typeof(resolved -> 'nodes') WHEN 'array' THEN resolved -> 'nodes' ELSE '[]' END)
                 WITH ORDINALITY n
            UNION ALL
            SELECT inner_node.spec, coalesce(inner_node.spec ->> 'key', nodes.key || inner_node.suffix), nodes.times * inner_node.times, nodes.place,
                   CASE WHEN inner_node.own THEN nodes.known END
            FROM nodes CROSS JOIN LATERAL (
                SELECT nodes.spec -> 'node' AS spec, '.item' AS suffix, coalesce(jsonb_array_length(CASE jsonb_typeof(elements) WHEN 'array' THEN elements END), 1)::numeric AS times,
                       true AS own
                FROM goya_private.quote_value(nodes.spec -> 'over', nodes.known) elements
                UNION ALL
                SELECT nodes.spec -> 'compensate', '.compensate', 0, true
                UNION ALL
                -- What the child task gets is known when it starts: its quantities are estimates.
                SELECT chosen.node - 'key', '.' || (chosen.node ->> 'operator'), 1, false
                FROM goya_private.quote_chosen(quote_lines.tenant_id, nodes.spec) chosen
                WHERE quote_lines.children AND nodes.spec ? 'candidates') inner_node
            WHERE jsonb_typeof(inner_node.spec) = 'object'
        ), priced AS (
            SELECT nodes.key, nodes.times, nodes.place,
                   CASE jsonb_typeof(nodes.spec -> 'price') WHEN 'string' THEN nodes.spec ->> 'price' ELSE nodes.spec -> 'price' ->> 'name' END AS name,
                   goya_private.quote_value(nodes.spec -> 'price' -> 'quantity', nodes.known) AS given, nodes.known,
                   coalesce((goya_private.quote_value(nodes.spec -> 'price' -> 'estimate', nodes.known) #>> '{}')::numeric, 1) AS estimate
            FROM nodes
            WHERE nodes.spec -> 'price' IS NOT NULL AND jsonb_typeof(nodes.spec -> 'price') <> 'null'
        ), wanted AS (
            SELECT p.key, p.times, p.place, p.name, NULL::text AS unit,
                   CASE jsonb_typeof(p.given) WHEN 'number' THEN p.given::numeric ELSE p.estimate END AS quantity
            FROM priced p WHERE jsonb_typeof(p.given) IS DISTINCT FROM 'object'
            UNION ALL
            SELECT p.key, p.times, p.place, p.name, u.key,
                   coalesce((CASE jsonb_typeof(v) WHEN 'number' THEN v END)::numeric, p.estimate)
            FROM priced p CROSS JOIN LATERAL jsonb_each(CASE jsonb_typeof(p.given) WHEN 'object' THEN p.given ELSE '{}' END) u
                 CROSS JOIN LATERAL goya_private.quote_value(u.value, p.known) v
        )
        SELECT w.key, w.name, coalesce(f.unit, w.unit), w.quantity * w.times, goya_private.cost(w.quantity * w.times, f.amount, f.per_units), wallet_currency
        FROM wanted w LEFT JOIN LATERAL goya_private.prices_in_force(quote_lines.tenant_id, w.name, wallet_currency, quote_lines.at) f
             ON w.unit IS NULL OR f.unit = w.unit
        ORDER BY w.place, w.key, 3
    LOOP
        -- A unit that nobody priced is free; a name that nobody priced is a mistake, better told before anything ran.
        IF amount IS NULL AND NOT EXISTS (SELECT FROM goya_private.prices_in_force(quote_lines.tenant_id, price_name, wallet_currency, at)) THEN
            RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('no price is called "%s"', price_name),
                DETAIL = format('Node "%s" has this price; none in %s is in force.', node, wallet_currency),
                HINT = 'Ask an administrator for goya.set_price, or change the workflow.';
        END IF;
        amount := coalesce(amount, 0);
        RETURN NEXT;
    END LOOP;
END;
$$;

CREATE FUNCTION goya.quote(workflow text, input jsonb DEFAULT '{}',
    OUT node text, OUT price_name text, OUT unit text, OUT quantity numeric, OUT amount bigint, OUT currency text) RETURNS SETOF record
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 10 SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    owner uuid := goya_private.require_tenant();
    found_workflow goya.workflows;
    definition jsonb;
BEGIN
    SELECT w.* INTO found_workflow FROM goya.workflows w
    WHERE w.tenant_id = owner AND w.name = quote.workflow AND goya_private.may_see(w.visibility, w.owner_role, w.visible_roles);
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('workflow', quote.workflow, 'SELECT name FROM goya.workflows lists them.');
    ELSIF found_workflow.revision IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('workflow "%s" is not published', quote.workflow),
            DETAIL = 'Prices are those of the published revision.', HINT = 'Call goya.publish_workflow.';
    END IF;
    SELECT r.resolved INTO STRICT definition FROM goya.workflow_revisions r
    WHERE r.workflow_id = found_workflow.id AND r.revision = found_workflow.revision;
    RETURN QUERY
        WITH lines AS MATERIALIZED (
            SELECT row_number() OVER () AS place, l.* FROM goya_private.quote_lines(owner, definition, quote.input, clock_timestamp(), true) l)
        SELECT s.node, s.price_name, s.unit, s.quantity, s.amount, s.currency FROM (
            SELECT l.* FROM lines l WHERE l.quantity > 0
            UNION ALL
            SELECT NULL, NULL, NULL, NULL, NULL, coalesce(sum(l.amount), 0)::bigint,
                   coalesce((SELECT w.currency FROM goya.wallets w WHERE w.tenant_id = owner), 'USD') FROM lines l) s
        ORDER BY s.place NULLS LAST;
END;
$$;
COMMENT ON FUNCTION goya.quote(text, jsonb) IS
'Estimates what a task of a workflow will cost: a row per priced node and unit, and a last row with node null, the total.
amount: nano-units of currency, which is the wallet''s. A quantity is taken from the input where the workflow reads it from there, else the node''s
estimate; a map counts the elements of an array in the input. Of an algorithm''s node the implementation that its policy would choose now is counted, as
node "key.operator". A task holds the same estimate, made without its input and without those implementations, which are tasks with holds of their own.
Errors: PT404 unknown workflow, 55000 not published, 22023 a node names a price that is not set, 42501 no tenant.
Example: SELECT node, amount FROM goya.quote(''describe-video'', ''{"frames": 12}'');';
