-- What each process takes of an account's pace: told anew each second, and nothing to keep.
CREATE UNLOGGED TABLE paces (
    gateway text NOT NULL,
    process uuid NOT NULL,
    part double precision NOT NULL,
    late boolean NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (gateway, process)
);
