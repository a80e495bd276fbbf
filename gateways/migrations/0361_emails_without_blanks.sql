-- Emails are compared without the blanks around them, as the first run always did.
UPDATE emails SET email = btrim(email, E' \t\n\r') WHERE email <> btrim(email, E' \t\n\r');
