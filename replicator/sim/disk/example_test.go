package disk_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/velosync/velosync/replicator/sim/disk"
	"github.com/velosync/velosync/sqlfuncs"
)

func Example() {
	dir, err := os.MkdirTemp("", "disk")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	d, err := disk.New(dir)
	if err != nil {
		panic(err)
	}
	defer d.Close()
	conn, err := sqlfuncs.Open(filepath.Join(dir, "a.db"), nil)
	if err != nil {
		panic(err)
	}
	defer conn.Close()

	d.Fail(disk.Fault{Ops: disk.Write, Times: 1, Full: true})
	_, err = conn.Exec("CREATE TABLE kv(k, v)", nil)
	fmt.Println(err, d.Heal())
	// Output: database or disk is full 1
}
