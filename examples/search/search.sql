-- Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009): each list gives a document 1 / (60 + its
-- place in it), and the sums decide. A bm25 score and a cosine can't be added, their scales have nothing
-- in common; places can. With 60 the first places of a list do not outweigh agreement between both:
-- first in one list alone gives 1/61 = 0.0164, tenth in both gives 2/70 = 0.0286.
--
-- :words is an FTS5 query, :embedding the query's vector, :depth how far down each list counts.
WITH
words AS (
  -- rank is bm25, the best is the least. The limit stands inside, or all matches would be numbered.
  SELECT id, row_number() OVER (ORDER BY rank) AS place
    FROM (SELECT rowid AS id, rank FROM docs_fts WHERE docs_fts MATCH :words ORDER BY rank LIMIT :depth)
),
nearest AS (
  SELECT id, row_number() OVER (ORDER BY distance) AS place
    FROM docs_knn WHERE embedding MATCH :embedding AND k = :depth
),
fused AS (
  -- One row a document: a document that only one list has is NULL in the other's column.
  SELECT id, sum(1.0 / (60 + place)) AS score, max(word_place) AS word_place, max(vector_place) AS vector_place
    FROM (SELECT id, place, place AS word_place, NULL AS vector_place FROM words
          UNION ALL
          SELECT id, place, NULL, place FROM nearest)
   GROUP BY id
)
SELECT docs.path, docs.title, docs.body, score, word_place, vector_place
  FROM fused JOIN docs USING (id)
 ORDER BY score DESC, docs.path
 LIMIT :limit
