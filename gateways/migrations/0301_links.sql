-- A link is one customer at one gateway. It outlives both: a deleted or unlinked one blocks a re-import for ever.
CREATE TABLE links (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway      text        NOT NULL,
    customer_id  uuid        NOT NULL,
    remote_id    text,
    state        text        NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'deleted', 'unlinked')),
    -- What the remote was last seen to hold, and when that was so, in the remote's time.
    base         jsonb,
    base_from    timestamptz,
    base_until   timestamptz,
    -- Values that the remote spells its own way, as (sent, held).
    spellings    jsonb       NOT NULL DEFAULT '{}',
    -- What the remote rejected for good. The same is not tried again; a different value is.
    refused      jsonb       NOT NULL DEFAULT '{}',
    -- The remote must be asked, whatever the inbox says.
    look         boolean     NOT NULL DEFAULT false,
    -- Due while due_seq > done_seq. Whoever wants it looked at adds one; a run ends by writing what it began with.
    due_seq      bigint      NOT NULL DEFAULT 0,
    done_seq     bigint      NOT NULL DEFAULT 0,
    due_since    timestamptz NOT NULL DEFAULT clock_timestamp(),
    not_before   timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts     integer     NOT NULL DEFAULT 0,
    last_error   text,
    -- Who works on it, and until when nobody else may. Every write of a run names its token.
    lease_token  uuid,
    lease_holder integer,
    lease_until  timestamptz,
    leased_at    timestamptz,
    synced_at    timestamptz,
    UNIQUE (gateway, customer_id),
    UNIQUE (gateway, remote_id),
    CHECK ((base IS NULL) = (base_from IS NULL) AND (base IS NULL) = (base_until IS NULL))
);

CREATE INDEX links_due ON links (gateway, not_before) WHERE due_seq > done_seq;
CREATE INDEX links_leased ON links (lease_holder) WHERE lease_token IS NOT NULL;

-- Changes at a gateway, stored as they come and acted on later.
CREATE TABLE inbox (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway     text        NOT NULL,
    event_id    text        NOT NULL,
    change      jsonb       NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- new: no link is known yet; waiting: its link is due; done: taken in; parked: a person must look.
    state       text        NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'waiting', 'done', 'parked')),
    link_id     bigint      REFERENCES links,
    UNIQUE (gateway, event_id)
);

CREATE INDEX inbox_new ON inbox (gateway, id) WHERE state = 'new';
CREATE INDEX inbox_waiting ON inbox (link_id, id) WHERE state = 'waiting';

-- Calls that change something, stored before they are sent. At most one is open for a link.
CREATE TABLE intents (
    key          text        PRIMARY KEY,
    link_id      bigint      NOT NULL REFERENCES links,
    write        jsonb       NOT NULL,
    body         text        NOT NULL,
    -- Of each sent field: what the remote was last seen to hold, and when a person chose what is sent.
    against      jsonb       NOT NULL,
    edited_at    jsonb       NOT NULL,
    created_at   timestamptz NOT NULL,
    -- open; executed: carried out once, and we know what came of it; abandoned: not carried out as far as could be seen.
    state        text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'executed', 'abandoned')),
    -- Answered in a way that a repeat would only repeat: look, and never send it again.
    spoilt       boolean     NOT NULL DEFAULT false,
    echo_checked boolean     NOT NULL DEFAULT false
);

CREATE UNIQUE INDEX intents_open ON intents (link_id) WHERE state = 'open';

-- What waits for a person.
CREATE TABLE parked (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway     text        NOT NULL,
    link_id     bigint      NOT NULL REFERENCES links,
    kind        text        NOT NULL CHECK (kind IN ('rejected', 'duplicate')),
    remote_id   text,
    inbox_id    bigint      REFERENCES inbox,
    field       text,
    code        text,
    reason      text        NOT NULL,
    parked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    state       text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'retried', 'dismissed', 'superseded')),
    closed_at   timestamptz
);

CREATE UNIQUE INDEX parked_rejected ON parked (link_id, COALESCE(field, '')) WHERE state = 'open' AND kind = 'rejected';
CREATE UNIQUE INDEX parked_duplicate ON parked (gateway, remote_id) WHERE state = 'open' AND kind = 'duplicate';

-- Until when, in its own time, everything that changed at a gateway has been read.
CREATE TABLE sweeps (
    gateway     text        PRIMARY KEY,
    swept_until timestamptz NOT NULL,
    swept_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
