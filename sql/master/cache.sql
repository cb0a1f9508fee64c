-- Which state of the space a file holds that is a cache of a database, one row; none until it
-- was filled. Written with every change of the file.
CREATE TABLE _velosync_cache (
  id           INTEGER PRIMARY KEY CHECK (id = 1),
  change       INTEGER NOT NULL,  -- velosync_space.change
  stamp        BLOB NOT NULL      -- velosync_space.stamp
);
