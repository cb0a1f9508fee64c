-- What is left of search.sql where the build has no FTS5.
SELECT docs.path, docs.title, docs.body, 1.0 / (60 + place) AS score, NULL AS word_place, place AS vector_place
  FROM (SELECT id, row_number() OVER (ORDER BY distance) AS place
          FROM docs_knn WHERE embedding MATCH :embedding AND k = :depth) JOIN docs USING (id)
 ORDER BY place
 LIMIT :limit
