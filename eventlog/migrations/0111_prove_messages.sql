-- A message of the stream proves by a MAC with this key that the relay made it. The key is random, and renewed with the epoch.
ALTER TABLE feed
    ADD COLUMN mac_key bytea NOT NULL
        DEFAULT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
        CHECK (octet_length(mac_key) = 32),
    -- Up to here, versions that made no MAC have published.
    ADD COLUMN unsigned_until bigint NOT NULL DEFAULT 0 CHECK (unsigned_until >= 0);
UPDATE feed SET unsigned_until = last_position;
