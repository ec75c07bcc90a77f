-- What is attached to messages: kinds of attachments, how many, how large, how long?
--
-- attachments: items, of which a message has up to 30. messages: those with at least one of the kind. megabytes: 10^6 bytes.
-- minutes: of recordings and videos.
--
-- `attachments` is a list of structs, so each item becomes a row first. Sizes are as the sender's client told them, null
-- where it did not: sized says of how many. A link preview (article) counts as an attachment.
-- Deleted messages are left out here, since their files are gone.
SELECT
  attachment.type AS kind,
  count(*) AS attachments,
  count(DISTINCT message_id) AS messages,
  count(attachment.file_size) AS sized,
  round(sum(attachment.file_size) / 1e6, 2) AS megabytes,
  round(sum(attachment.duration) / 60.0, 1) AS minutes
FROM (
  SELECT id AS message_id, unnest(attachments) AS attachment
  FROM current_messages
  WHERE deleted_at IS NULL
) AS items
GROUP BY attachment.type
ORDER BY attachments DESC, kind;
