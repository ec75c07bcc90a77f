-- Who reacts most, and whose messages get the most reactions?
--
-- given, received: reactions. The ten users who gave most.
--
-- Stream embeds at most ten reactions in a message, the latest: of a message with more, rows are missing, and these
-- are lower bounds. `messages.reaction_counts` is complete and says nothing of who.
-- A reaction lies under the day of its message, whenever it was made: with event_date in the join both are pruned by it.
WITH given AS (
  SELECT user_id, count(*) AS reactions
  FROM current_reactions
  GROUP BY user_id
),
received AS (
  SELECT message.user_id, count(*) AS reactions
  FROM current_reactions AS reaction
  JOIN current_messages AS message
    ON message.event_date = reaction.event_date AND message.cid = reaction.cid AND message.id = reaction.message_id
  GROUP BY message.user_id
)
SELECT
  latest_users.id AS user_id,
  latest_users.name AS name,
  coalesce(given.reactions, 0) AS given,
  coalesce(received.reactions, 0) AS received
FROM latest_users
LEFT JOIN given ON given.user_id = latest_users.id
LEFT JOIN received ON received.user_id = latest_users.id
ORDER BY given DESC, user_id
LIMIT 10;
