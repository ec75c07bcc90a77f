-- How many messages of a day were edited, deleted, or are gone?
--
-- All columns are messages, by the UTC day on which they were sent, however late they changed. sent is all of them.
-- edited: the text was changed. edited_later: a day or more after it was sent. deleted: softly, so that the row is still delivered.
-- gone: a later export did not deliver them any more, because they were deleted for good or truncated.
--
-- This one needs `messages` itself: the view leaves out what is gone.
-- `updated_at` is no sign of an edit: reactions, pins and deletions may move it.
-- What changed after the last revisit of a day is not known to the lake.
SELECT
  event_date,
  count(*) AS sent,
  count(message_text_updated_at) AS edited,
  count(CASE WHEN message_text_updated_at >= created_at + INTERVAL 24 HOUR THEN 1 END) AS edited_later,
  count(deleted_at) AS deleted,
  count(_vanished_at) AS gone
FROM messages
GROUP BY event_date
ORDER BY event_date;
