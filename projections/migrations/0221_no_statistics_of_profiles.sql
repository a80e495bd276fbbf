-- PostgreSQL's statistics are samples of the values, and outlive those who are erased. No plan depends on these. Changing a
-- column's type to what it is rewrites nothing, and drops the statistics that are there; a view that shows it is made anew.
DROP VIEW customers, conflicts;
ALTER TABLE customer_rows ALTER COLUMN profile SET STATISTICS 0, ALTER COLUMN profile TYPE jsonb;
ALTER TABLE conflict_rows ALTER COLUMN catalog SET STATISTICS 0, ALTER COLUMN catalog TYPE jsonb,
    ALTER COLUMN remote SET STATISTICS 0, ALTER COLUMN remote TYPE jsonb;
CREATE VIEW customers AS
SELECT id, state, profile ->> 'name' AS name, profile ->> 'email' AS email, profile ->> 'phone' AS phone,
       profile -> 'address' AS address, profile, name_key, email_key, version, seen, position, created_at, updated_at
FROM customer_rows
WHERE generation = (SELECT generation FROM checkpoints WHERE name = 'customers' AND live);
CREATE VIEW conflicts AS
SELECT id, customer_id, gateway, field, catalog, remote, winner, policy, opened_at, resolved_at, version
FROM conflict_rows
WHERE generation = (SELECT generation FROM checkpoints WHERE name = 'customers' AND live);
