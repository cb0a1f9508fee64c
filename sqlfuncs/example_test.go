package sqlfuncs_test

import (
	"database/sql/driver"
	"fmt"
	"log"

	"github.com/velosync/velosync/sqlfuncs"
)

func ExampleOpen() {
	conn, err := sqlfuncs.Open(":memory:", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	query, err := sqlfuncs.PackF32([]float32{1, 1})
	if err != nil {
		log.Fatal(err)
	}
	rows, err := conn.Query(`
		SELECT name, vec_to_json(vec_normalize(e))
		FROM (SELECT 'north' AS name, '[0, 2]' AS e UNION ALL SELECT 'north-east', '[3, 4]')
		ORDER BY cosine_similarity(e, ?) DESC`, []driver.Value{query})
	if err != nil {
		log.Fatal(err)
	}
	defer rows.Close()
	row := make([]driver.Value, 2)
	for rows.Next(row) == nil {
		fmt.Println(row[0], row[1])
	}
	// Output:
	// north-east [0.6,0.8]
	// north [0,1]
}
