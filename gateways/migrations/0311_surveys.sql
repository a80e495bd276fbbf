-- One reading of both sides of a gateway: what `verify` compares and `plan` matches. Where it was is stored with each page,
-- so that a killed one goes on; while it runs, the pages wait here, not in memory.
CREATE TABLE surveys (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway      text        NOT NULL,
    kind         text        NOT NULL CHECK (kind IN ('verify', 'plan')),
    -- How objects were matched with customers, beside by our id and by email.
    match_key    text,
    began_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The gateway's side: the last object of the last page that was read, and how many were.
    there_cursor text,
    there_done   boolean     NOT NULL DEFAULT false,
    objects      bigint      NOT NULL DEFAULT 0,
    -- Ours: the last customer of the last page, and how many living ones there were.
    here_cursor  text        NOT NULL DEFAULT '',
    here_done    boolean     NOT NULL DEFAULT false,
    customers    bigint      NOT NULL DEFAULT 0,
    -- The comparison: which part of it, and the last that was looked at in it.
    part         integer     NOT NULL DEFAULT 0,
    part_cursor  text        NOT NULL DEFAULT '',
    -- What came of it.
    compared     bigint      NOT NULL DEFAULT 0,
    in_flight    bigint      NOT NULL DEFAULT 0,
    ended_at     timestamptz
);

CREATE INDEX surveys_ended ON surveys (gateway, kind, ended_at);

CREATE TABLE survey_objects (
    survey_id   bigint NOT NULL REFERENCES surveys ON DELETE CASCADE,
    remote_id   text   NOT NULL,
    -- In the order of the list.
    ordinal     bigint GENERATED ALWAYS AS IDENTITY,
    -- Whose copy it says it is.
    customer_id uuid,
    profile     jsonb  NOT NULL,
    -- Lower case by Unicode's rules.
    email_key   text   COLLATE "C",
    PRIMARY KEY (survey_id, remote_id)
);

CREATE TABLE survey_customers (
    survey_id   bigint NOT NULL REFERENCES surveys ON DELETE CASCADE,
    customer_id uuid   NOT NULL,
    profile     jsonb  NOT NULL,
    email_key   text   COLLATE "C",
    PRIMARY KEY (survey_id, customer_id)
);

-- What `verify` found to differ, and found so again when it looked a second time. The next one begins with none.
CREATE TABLE drifts (
    id          bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    survey_id   bigint  NOT NULL REFERENCES surveys ON DELETE CASCADE,
    kind        text    NOT NULL CHECK (kind IN ('differs', 'missing_there', 'missing_here', 'not_linked', 'dead_on_one_side')),
    link_id     bigint  REFERENCES links,
    customer_id uuid,
    remote_id   text,
    -- Of each field that differs: what the catalog holds, and what the gateway does.
    fields      jsonb   NOT NULL DEFAULT '[]',
    -- A push of it waits for a person.
    parked      boolean NOT NULL DEFAULT false,
    email_key   text    COLLATE "C",
    -- Of an object: what a gateway's change would say of it.
    change      jsonb,
    -- Why `--repair` leaves it to a person; and whether it has marked it.
    remark      text,
    repaired    boolean NOT NULL DEFAULT false
);

CREATE INDEX drifts_survey ON drifts (survey_id, id);
CREATE INDEX drifts_email ON drifts (survey_id, email_key);
