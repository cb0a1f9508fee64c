package pgtest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/velosync/velosync/masterd/store/pgtest"
)

// A test gets a server of its own.
func ExampleStart() {
	test := func(t *testing.T) {
		conn, err := pgx.Connect(context.Background(), pgtest.Start(t).URL("notes"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		var schema string
		if err := conn.QueryRow(context.Background(), `SELECT current_schema()`).Scan(&schema); err != nil {
			t.Fatal(err)
		}
		fmt.Println(schema)
	}
	testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "mine", F: test}})
	// Output: notes
}
