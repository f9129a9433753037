-- 39_egress.sql: rules for the addresses that outside calls may reach.
--
-- Decided: a call must pass twice. First administrators' rules, for every tenant or one; the first that fits decides, without one the settings do
-- (public addresses only). Then the tenant's own, which only narrow that. A rule opens a private, loopback or link-local address only if it names its
-- network, since a name is whatever its owner's DNS says; only administrators make such rules. src/egress_match.c decides.
-- Must hold: a rule counts for every call that is claimed after its COMMIT returned.

CREATE TRIGGER egress_rules_tell AFTER INSERT OR UPDATE OR DELETE ON goya.egress_rules FOR EACH ROW EXECUTE FUNCTION goya_private.tell_change();
ALTER TABLE goya.egress_rules ENABLE ALWAYS TRIGGER egress_rules_tell;

-- Has the network an address that is not of the public internet? The same ranges as src/http_address.c.
CREATE FUNCTION goya_private.network_is_public(network cidr) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE family(network_is_public.network)
        WHEN 4 THEN NOT network_is_public.network && ANY ('{0.0.0.0/8,10.0.0.0/8,100.64.0.0/10,127.0.0.0/8,169.254.0.0/16,172.16.0.0/12,192.0.0.0/24,192.0.2.0/24,
            192.88.99.0/24,192.168.0.0/16,198.18.0.0/15,198.51.100.0/24,203.0.113.0/24,224.0.0.0/3}'::cidr[])
        ELSE network_is_public.network <<= '2000::/3'::cidr AND NOT network_is_public.network && ANY ('{2001::/32,2001:db8::/32,2002::/16}'::cidr[]) END
$$;

CREATE FUNCTION goya_private.add_egress_rule(action text, host text, network cidr, ports text, scheme text, ordinal integer, tenant text, note text) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    admin  boolean := goya.is_admin();
    owner  uuid := CASE WHEN admin THEN NULL ELSE goya_private.require_writer() END;
    range  text[] := regexp_match(coalesce(add_egress_rule.ports, '1-65535'), '^([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?$');
    made   bigint;
BEGIN
    IF admin AND add_egress_rule.tenant IS NOT NULL THEN
        SELECT t.id INTO owner FROM goya.tenants t WHERE t.name = add_egress_rule.tenant;
        IF NOT FOUND THEN
            PERFORM goya_private.not_found('tenant', add_egress_rule.tenant, 'SELECT name FROM goya.tenants lists them.');
        END IF;
    ELSIF add_egress_rule.tenant IS NOT NULL AND NOT EXISTS (SELECT FROM goya.tenants t WHERE t.id = owner AND t.name = add_egress_rule.tenant) THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'only a platform administrator makes rules for other tenants',
            HINT = 'Leave tenant out: the rule is your tenant''s.';
    END IF;
    IF NOT admin AND add_egress_rule.action = 'allow' AND NOT goya_private.network_is_public(add_egress_rule.network) THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'only a platform administrator allows addresses that are not public',
            DETAIL = format('%s has private, loopback, link-local or reserved addresses.', add_egress_rule.network),
            HINT = 'A tenant''s rules narrow what administrators allow.';
    END IF;
    IF add_egress_rule.host IS NOT NULL AND lower(add_egress_rule.host) !~ '^[a-z0-9._:*-]{1,253}$' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad host pattern',
            DETAIL = format('"%s" has characters that no name of a host has.', add_egress_rule.host),
            HINT = 'Write a name, as in api.example.com or *.example.com; of an international name its ASCII form (xn--…).';
    END IF;
    IF range IS NULL OR range[1]::integer > 65535 OR coalesce(range[2], range[1])::integer NOT BETWEEN range[1]::integer AND 65535 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad ports', DETAIL = format('"%s" is no port and no range of ports.', add_egress_rule.ports),
            HINT = 'Write 443 or 8000-8099.';
    END IF;
    IF add_egress_rule.scheme IS NOT NULL AND add_egress_rule.scheme NOT IN ('http', 'https') THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad scheme', DETAIL = format('"%s" is none of http, https.', add_egress_rule.scheme),
            HINT = 'Leave it out for both.';
    END IF;
    IF add_egress_rule.ordinal IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'ordinal must be a number', HINT = 'Without one it is 100.';
    END IF;
    IF (SELECT count(*) FROM goya.egress_rules r WHERE r.tenant_id IS NOT DISTINCT FROM owner) >= 1000 THEN
        RAISE EXCEPTION USING ERRCODE = '54000', MESSAGE = 'too many egress rules', DETAIL = 'There may be 1000 for a tenant, and 1000 for all.',
            HINT = 'goya.drop_egress_rule takes one away.';
    END IF;
    INSERT INTO goya.egress_rules (tenant_id, by_admin, ordinal, action, scheme, host, port_from, port_to, network, note, created_by)
    VALUES (owner, admin, add_egress_rule.ordinal, add_egress_rule.action, add_egress_rule.scheme, rtrim(lower(add_egress_rule.host), '.'), range[1]::integer,
            coalesce(range[2], range[1])::integer, add_egress_rule.network, add_egress_rule.note, goya.current_caller())
    RETURNING id INTO made;
    RETURN made;
END;
$$;

CREATE FUNCTION goya.allow_egress(host text DEFAULT NULL, network cidr DEFAULT NULL, ports text DEFAULT NULL, scheme text DEFAULT NULL,
    ordinal integer DEFAULT 100, tenant text DEFAULT NULL, note text DEFAULT NULL) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT goya_private.add_egress_rule('allow', allow_egress.host, allow_egress.network, allow_egress.ports, allow_egress.scheme, allow_egress.ordinal,
                                            allow_egress.tenant, allow_egress.note);
    END;
COMMENT ON FUNCTION goya.allow_egress(text, cidr, text, text, integer, text, text) IS
'Allows outside calls that fit, and returns the rule''s id. Null fits anything.
host: of the url, * is any text; network: of the address that is called; ports: 443 or 8000-8099; scheme: http or https. Of rules that fit the first counts, by
ordinal, then id. Called by an administrator the rule is for the named tenant or for all, and decides before the settings; private, loopback and link-local
addresses only with their network. Called by anybody else it is for the own tenant: with a deny of everything else behind it, it narrows what
administrators allow. Counts for calls that start after the commit.
Errors: 22023 bad host, ports or scheme; 42501 no tenant, reader, or a network that is not public; PT404 unknown tenant; 54000 1000 rules are there.
Example: SELECT goya.allow_egress(''*.media.internal'', ''10.20.0.0/16'', ports => ''443'', tenant => ''acme'');';

CREATE FUNCTION goya.deny_egress(host text DEFAULT NULL, network cidr DEFAULT NULL, ports text DEFAULT NULL, scheme text DEFAULT NULL,
    ordinal integer DEFAULT 100, tenant text DEFAULT NULL, note text DEFAULT NULL) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT goya_private.add_egress_rule('deny', deny_egress.host, deny_egress.network, deny_egress.ports, deny_egress.scheme, deny_egress.ordinal,
                                            deny_egress.tenant, deny_egress.note);
    END;
COMMENT ON FUNCTION goya.deny_egress(text, cidr, text, text, integer, text, text) IS
'Denies outside calls that fit, and returns the rule''s id. Null fits anything.
Arguments and order as for goya.allow_egress. A network of IPv4 is denied also in IPv6 addresses that carry it. Of an administrator, for the named tenant or for
all; of anybody else, for the own tenant.
Errors: 22023 bad host, ports or scheme; 42501 no tenant or reader; PT404 unknown tenant; 54000 1000 rules are there.
Example: SELECT goya.allow_egress(''api.example.com'', ports => ''443''), goya.deny_egress(ordinal => 1000);';

CREATE FUNCTION goya.drop_egress_rule(id bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    admin boolean := goya.is_admin();
    owner uuid := CASE WHEN admin THEN NULL ELSE goya_private.require_writer() END;
BEGIN
    DELETE FROM goya.egress_rules r WHERE r.id = drop_egress_rule.id AND (admin OR (r.tenant_id = owner AND NOT r.by_admin));
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('egress rule', coalesce(drop_egress_rule.id::text, 'null'), 'SELECT id FROM goya.egress_rules lists them; administrators'' rules are theirs.');
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.drop_egress_rule(bigint) IS
'Takes an egress rule away: administrators any, others those their tenant made itself.
Errors: PT404 no such rule, 42501 no tenant or reader.';
