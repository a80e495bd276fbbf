-- Signed webhooks that were of another account or mode than the gateway's: how many, and when the last came.
CREATE TABLE foreign_webhooks (
    gateway text        NOT NULL,
    -- another_account, platform, live_mode, test_mode.
    whose   text        NOT NULL,
    events  bigint      NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (gateway, whose)
);
