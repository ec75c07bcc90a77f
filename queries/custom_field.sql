-- How much is written in tickets of each priority, which is the app's own data of a channel?
--
-- tickets: channels of the type `support`. messages: rows. from_the_web: messages whose own data names that source.
-- sla_hours: mean of what messages say, in hours.
--
-- `custom` is JSON text, and every value of it is text until it is cast. What is not there is null: most messages
-- have no data of their own, so count what is there and not the rows. TRY_CAST makes null of what is no number.
-- The same key of a message and of its channel are different things: say which `custom`.
-- A key that is asked for often is better a column: see docs/columns.md. After that it is in `custom` no more.
SELECT
  CAST(json_extract_string(channel.custom, '$.priority') AS INT) AS priority,
  count(DISTINCT channel.cid) AS tickets,
  count(*) AS messages,
  count(CASE WHEN json_extract_string(message.custom, '$.source') = 'web-widget' THEN 1 END) AS from_the_web,
  avg(TRY_CAST(json_extract_string(message.custom, '$.ticket.sla_hours') AS DOUBLE)) AS sla_hours
FROM current_messages AS message
JOIN latest_channels AS channel ON channel.cid = message.cid
WHERE channel.type = 'support' AND message.deleted_at IS NULL
GROUP BY CAST(json_extract_string(channel.custom, '$.priority') AS INT)
ORDER BY priority;
