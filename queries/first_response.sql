-- How long does the first answer in a thread take, by type of channel?
--
-- threads: first messages with a reply of anybody. answered: those with one of somebody else. on_a_later_day: of these,
-- those whose first answer was sent on another UTC day. Times from the first message to that answer, in minutes.
--
-- Replies lie under the day on which they were sent themselves, so a thread is in several days. Whoever asks for
-- threads of one week gives `root` that week and `reply` no end.
-- Threads whose first message has vanished or was sent before the lake begins have no `root` and are not counted.
-- Soft-deleted replies are counted: they were answers. `reply_count` is of the export, and says nothing of when.
WITH threads AS (
  SELECT
    root.cid,
    root.id,
    root.event_date,
    root.created_at,
    min(CASE WHEN reply.user_id <> root.user_id THEN reply.created_at END) AS answered_at,
    min(CASE WHEN reply.user_id <> root.user_id THEN reply.event_date END) AS answered_on
  FROM current_messages AS root
  JOIN current_messages AS reply ON reply.cid = root.cid AND reply.parent_id = root.id
  WHERE root.event_date >= DATE '2026-01-05' AND reply.event_date >= DATE '2026-01-05'
  GROUP BY root.cid, root.id, root.event_date, root.created_at
)
SELECT
  split_part(cid, ':', 1) AS channel_type,
  count(*) AS threads,
  count(answered_at) AS answered,
  count(CASE WHEN answered_on > event_date THEN 1 END) AS on_a_later_day,
  round(median(date_diff('second', created_at, answered_at)) / 60.0, 1) AS median_minutes,
  round(max(date_diff('second', created_at, answered_at)) / 60.0, 1) AS longest_minutes
FROM threads
GROUP BY split_part(cid, ':', 1)
ORDER BY channel_type;
