-- How much is written each day, in each type of channel, and by how many people?
--
-- messages, replies: rows. authors: distinct users. Days are those of UTC, on which the message was sent.
--
-- Soft-deleted messages count, for they were sent. What has vanished does not: it is not in the view.
-- System messages ("ada changed the channel name") were written by nobody. A deleted one has the type `deleted`
-- from then on, so a few of them are counted. IS DISTINCT FROM keeps rows whose type is not known.
-- Authors of two days or types cannot be added up: one person may be in both.
SELECT
  event_date,
  split_part(cid, ':', 1) AS channel_type,
  count(*) AS messages,
  count(parent_id) AS replies,
  count(DISTINCT user_id) AS authors
FROM current_messages
WHERE type IS DISTINCT FROM 'system'
GROUP BY event_date, split_part(cid, ':', 1)
ORDER BY event_date, channel_type;
