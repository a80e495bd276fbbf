-- On how many fields both sides differ until a person decides.
ALTER TABLE links ADD COLUMN contested integer NOT NULL DEFAULT 0 CHECK (contested >= 0);
CREATE INDEX links_contested ON links (gateway) WHERE contested > 0;
