package vsql

/*
#cgo darwin LDFLAGS: -Wl,-undefined,dynamic_lookup
#include <stdlib.h>
#include <string.h>

typedef int authorizer(void *, int, const char *, const char *, const char *, const char *);

// The program links SQLite through go-sqlite3, whose own call hands on no trigger's name.
__attribute__((weak)) extern int sqlite3_set_authorizer(void *db, authorizer *, void *arg);

// quiet is asked as a statement is compiled, for each trigger that it may fire. names are
// tables as they are declared, each ended by a NUL, and an empty one.
static int quiet(void *names, int op, const char *table, const char *column, const char *schema, const char *trigger) {
  enum { INSERT = 18, UPDATE = 23, OK = 0, IGNORE = 2 };
  if ((op != INSERT && op != UPDATE) || !trigger || !schema || strcmp(schema, "main")) return OK;
  for (const char *n = names; *n; n += strlen(n) + 1)
    if (!strcmp(n, table)) return IGNORE;
  return OK;
}

// vs_quiet returns an SQLite error code; 21: this program has no such function.
static int vs_quiet(void *db, void *names) {
  if (!sqlite3_set_authorizer) return 21;
  return sqlite3_set_authorizer(db, names ? quiet : NULL, names);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unsafe"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// Quiet runs f. What triggers would insert into or update in these tables of the main schema
// meanwhile does not happen; all else that they do, does. SQLite
// can't leave out a trigger's DELETE. It compiles the connection's statements anew, and
// takes the place of an authorizer that the connection has.
func (c *Conn) Quiet(tables []string, f func() error) (err error) {
	db := reflect.ValueOf(c.raw).Elem().FieldByName("db")
	if !db.IsValid() || db.Kind() != reflect.Pointer || db.IsNil() {
		return errors.New("this version of go-sqlite3 keeps its connection elsewhere: triggers can't be kept quiet")
	}
	names := C.CString(strings.Join(tables, "\x00") + "\x00")
	defer C.free(unsafe.Pointer(names))
	set := func(names unsafe.Pointer) error {
		if rc := C.vs_quiet(db.UnsafePointer(), names); rc != 0 {
			return fmt.Errorf("keep triggers quiet: %w", sqlite3.ErrNo(rc))
		}
		return nil
	}
	if err := set(unsafe.Pointer(names)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set(nil)) }()
	return f()
}
