-- What happened. The first seven columns are what postgres-es reads; the rest is ours.
-- The checks keep out what could be stored but never published: identifiers become NATS subject tokens, and a message
-- has to fit the server's max_payload of 1 MiB.
CREATE TABLE events (
    aggregate_type text        NOT NULL CHECK (aggregate_type ~ '^[A-Za-z0-9_-]+$'),
    aggregate_id   text        NOT NULL CHECK (aggregate_id ~ '^[A-Za-z0-9_-]+$'),
    sequence       bigint      NOT NULL CHECK (sequence > 0),
    event_type     text        NOT NULL CHECK (event_type ~ '^[A-Za-z0-9_-]+$'),
    event_version  text        NOT NULL,
    payload        jsonb       NOT NULL CHECK (pg_column_size(payload) <= 131072),
    metadata       jsonb       NOT NULL CHECK (pg_column_size(metadata) <= 8192),
    event_id       uuid        NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The order of insertion. CACHE 1: no session may hold numbers back, or a later event of an aggregate could get a
    -- lower one than the event before it.
    ordinal        bigint      GENERATED ALWAYS AS IDENTITY (CACHE 1),
    -- The place in the feed, dense from 1, given by the relay after the event has committed.
    position       bigint      UNIQUE CHECK (position > 0),
    -- Set when a person was erased: the payload is blank, and JetStream no longer holds the message.
    erased         boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (aggregate_type, aggregate_id, sequence)
);

CREATE INDEX events_unnumbered ON events (ordinal) WHERE position IS NULL;

-- What a request with an idempotency key led to: the aggregate, its version then, and how many events were the
-- command's own.
CREATE TABLE command_keys (
    key            text        PRIMARY KEY,
    fingerprint    bytea       NOT NULL,
    aggregate_type text        NOT NULL,
    aggregate_id   text        NOT NULL,
    version        bigint      NOT NULL CHECK (version >= 0),
    events         integer     NOT NULL CHECK (events >= 0),
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row: how far events are numbered, and which history this is. The epoch changes when a stream is rebuilt after a
-- restored backup, so that nobody mistakes the messages of the lost history for ours.
CREATE TABLE feed (
    singleton     boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    last_position bigint  NOT NULL DEFAULT 0 CHECK (last_position >= 0),
    epoch         uuid    NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO feed DEFAULT VALUES;

-- How far each projection has come. A rebuild runs as another generation beside the live one.
CREATE TABLE checkpoints (
    name       text        NOT NULL,
    generation integer     NOT NULL CHECK (generation > 0),
    epoch      uuid        NOT NULL,
    position   bigint      NOT NULL DEFAULT 0 CHECK (position >= 0),
    live       boolean     NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, generation)
);
CREATE UNIQUE INDEX checkpoints_live ON checkpoints (name) WHERE live;
