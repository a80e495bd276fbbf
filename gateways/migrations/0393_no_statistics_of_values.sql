-- PostgreSQL's statistics are samples of the values, and outlive those who are erased. No plan depends on these. Changing a
-- column's type to what it is rewrites nothing, and drops the statistics that are there.
ALTER TABLE links ALTER COLUMN base SET STATISTICS 0, ALTER COLUMN base TYPE jsonb,
    ALTER COLUMN spellings SET STATISTICS 0, ALTER COLUMN spellings TYPE jsonb,
    ALTER COLUMN refused SET STATISTICS 0, ALTER COLUMN refused TYPE jsonb;
ALTER TABLE inbox ALTER COLUMN change SET STATISTICS 0, ALTER COLUMN change TYPE jsonb;
ALTER TABLE intents ALTER COLUMN write SET STATISTICS 0, ALTER COLUMN write TYPE jsonb,
    ALTER COLUMN body SET STATISTICS 0, ALTER COLUMN body TYPE text,
    ALTER COLUMN against SET STATISTICS 0, ALTER COLUMN against TYPE jsonb,
    ALTER COLUMN edited_at SET STATISTICS 0, ALTER COLUMN edited_at TYPE jsonb;
ALTER TABLE survey_objects ALTER COLUMN profile SET STATISTICS 0, ALTER COLUMN profile TYPE jsonb;
ALTER TABLE survey_customers ALTER COLUMN profile SET STATISTICS 0, ALTER COLUMN profile TYPE jsonb;
ALTER TABLE drifts ALTER COLUMN fields SET STATISTICS 0, ALTER COLUMN fields TYPE jsonb,
    ALTER COLUMN change SET STATISTICS 0, ALTER COLUMN change TYPE jsonb;
ALTER TABLE plan_items ALTER COLUMN here SET STATISTICS 0, ALTER COLUMN here TYPE jsonb,
    ALTER COLUMN there SET STATISTICS 0, ALTER COLUMN there TYPE jsonb;
