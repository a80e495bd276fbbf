-- What a plan says is to be done with each customer and each object that are not linked.
CREATE TABLE plan_items (
    plan_id     bigint  NOT NULL REFERENCES surveys ON DELETE CASCADE,
    n           bigint  NOT NULL,
    action      text    NOT NULL CHECK (action IN ('link', 'create_there', 'create_here', 'ambiguous', 'duplicate')),
    customer_id uuid,
    remote_id   text,
    -- By what they were matched, and for ambiguous ones and duplicates why they were not.
    matched_by  text,
    reason      text,
    -- Both sides as they were when the plan was made. An item whose sides have changed since is not carried out.
    here        jsonb,
    there       jsonb,
    state       text    NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'done', 'changed')),
    applied_at  timestamptz,
    PRIMARY KEY (plan_id, n)
);

CREATE INDEX plan_items_action ON plan_items (plan_id, action, n);
