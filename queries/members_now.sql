-- Who is a member now, and how large are channels?
--
-- members: people in the latest export that tells members of the channel. member_count: what the channel itself says. ever: people
-- who were a member in any export.
--
-- `latest_members` has the latest row of everybody who was ever a member, and so those who have left: take the rows of
-- the latest export of the channel's members, and none if the channel was exported since then and says that it has none.
-- Where members is less than member_count, the export was cut at a hundred. Soft-deleted channels stay in the lake, with deleted_at.
WITH latest AS (
  SELECT cid, max(_exported_at) AS exported_at FROM latest_members GROUP BY cid
)
SELECT
  channel.cid,
  channel.member_count,
  count(CASE
    WHEN member._exported_at = latest.exported_at
      AND (latest.exported_at >= channel._exported_at OR channel.member_count > 0) THEN 1
  END) AS members,
  count(member.user_id) AS ever
FROM latest_channels AS channel
LEFT JOIN latest ON latest.cid = channel.cid
LEFT JOIN latest_members AS member ON member.cid = channel.cid
WHERE channel.deleted_at IS NULL
GROUP BY channel.cid, channel.member_count
ORDER BY channel.cid;
