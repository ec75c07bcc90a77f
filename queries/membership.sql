-- Who joined and who left which channel, from one export of it to the next?
--
-- One row for each change. earlier_date, snapshot_date: the UTC days of the two exports that show it.
--
-- Members are snapshots: each export adds a row for whoever is a member then. There is no row that says that somebody
-- left, so days of export are compared, of each channel for itself, since not all are exported every day. The first
-- shows who is there, and nothing that changed.
-- A day may have several exports of a channel: whoever is in one of them is a member of that day here.
-- Exports may hold the first hundred members only. Of larger channels, take `channels.member_count` for their number.
WITH present AS (
  SELECT DISTINCT cid, user_id, snapshot_date FROM members
),
steps AS (
  SELECT cid, snapshot_date, lag(snapshot_date) OVER (PARTITION BY cid ORDER BY snapshot_date) AS earlier_date
  FROM (SELECT DISTINCT cid, snapshot_date FROM members) AS days
)
SELECT steps.cid, steps.earlier_date, steps.snapshot_date, 'joined' AS change, present.user_id
FROM steps
JOIN present ON present.cid = steps.cid AND present.snapshot_date = steps.snapshot_date
LEFT JOIN present AS earlier
  ON earlier.cid = steps.cid AND earlier.snapshot_date = steps.earlier_date AND earlier.user_id = present.user_id
WHERE steps.earlier_date IS NOT NULL AND earlier.user_id IS NULL
UNION ALL
SELECT steps.cid, steps.earlier_date, steps.snapshot_date, 'left' AS change, earlier.user_id
FROM steps
JOIN present AS earlier ON earlier.cid = steps.cid AND earlier.snapshot_date = steps.earlier_date
LEFT JOIN present
  ON present.cid = steps.cid AND present.snapshot_date = steps.snapshot_date AND present.user_id = earlier.user_id
WHERE present.user_id IS NULL
ORDER BY cid, snapshot_date, change, user_id;
