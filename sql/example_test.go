package vsql_test

import (
	"fmt"
	"log"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

func Example() {
	raw, err := (&sqlite3.SQLiteDriver{}).Open(":memory:")
	if err != nil {
		log.Fatal(err)
	}
	defer raw.Close()
	c := vsql.NewConn(raw.(*sqlite3.SQLiteConn))
	defer c.Close()
	if err := c.Script(`CREATE TABLE "a ""b"(k TEXT, n INT NOT NULL, PRIMARY KEY(n, k))`); err != nil {
		log.Fatal(err)
	}
	d, err := c.Describe(`a "b`)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(vsql.Quote(d.Name), d.Key, vsql.KeyCondition(&d.Table))
	if _, err := c.Exec(`INSERT INTO `+vsql.Quote(d.Name)+` VALUES (?, ?)`, "x", int64(1)); err != nil {
		log.Fatal(err)
	}
	var key string
	if _, err := c.Row(`SELECT `+d.KeyExpression("")+` FROM `+vsql.Quote(d.Name), nil, &key); err != nil {
		log.Fatal(err)
	}
	fmt.Println(key)
	fmt.Println(change.SplitKey(key, len(d.Key)))
	// Output:
	// "a ""b" [1 0] "n" = ? AND "k" = ?
	// ["i1","tx"]
	// [1 x] <nil>
}
