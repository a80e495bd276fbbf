-- What was verified before drift was counted at the end.
UPDATE surveys SET drift = (SELECT count(*) FROM drifts WHERE survey_id = surveys.id)
WHERE kind = 'verify' AND ended_at IS NOT NULL AND drift IS NULL;
