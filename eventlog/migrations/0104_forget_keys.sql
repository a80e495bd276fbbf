-- Keys are forgotten by their age.
CREATE INDEX command_keys_age ON command_keys (recorded_at);
