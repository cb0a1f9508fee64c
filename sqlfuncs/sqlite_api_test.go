package sqlfuncs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// run runs a command that must succeed and returns what it wrote.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// compiler returns the C compiler that cgo uses.
func compiler(t *testing.T) string { return strings.TrimSpace(run(t, "go", "env", "CC")) }

// sqlite_api.h is declared by hand. A compiler checks it against the header of the SQLite that is
// linked: types of functions, values of constants, layout of structs, slots of the extension.
func TestSQLiteAPI(t *testing.T) {
	text, err := os.ReadFile("sqlite_api.h")
	if err != nil {
		t.Fatal(err)
	}
	ours := string(text)
	dir := strings.TrimSpace(run(t, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/mattn/go-sqlite3"))
	ext, err := os.ReadFile(filepath.Join(dir, "sqlite3ext.h"))
	if err != nil {
		t.Fatal(err)
	}

	var c strings.Builder
	c.WriteString("#include <stddef.h>\n#include \"sqlite3ext.h\"\n")
	field := map[string]string{}
	for _, m := range regexp.MustCompile(`#define (sqlite3_\w+)\s+sqlite3_api->(\w+)`).FindAllStringSubmatch(string(ext), -1) {
		field[m[1]] = m[2]
		fmt.Fprintf(&c, "#undef %s\n", m[1])
	}

	// The compiler refuses a second declaration of another type.
	c.WriteString("#define VS_WEAK\n")
	functions := regexp.MustCompile(`(?s)VS_WEAK extern [^;]*?(sqlite3_\w+)\([^;]*;`).FindAllStringSubmatch(ours, -1)
	for _, m := range functions {
		c.WriteString(m[0] + "\n")
	}

	constants := regexp.MustCompile(`(?m)^#define (SQLITE_\w+) ([^(\n]\S*|\(SQLITE.*\))`).FindAllStringSubmatch(ours, -1)
	for _, m := range constants {
		value := strings.NewReplacer("SQLITE_CORRUPT", "11", "SQLITE_CONSTRAINT", "19").Replace(m[2])
		fmt.Fprintf(&c, "_Static_assert(%s == %s, %q);\n", m[1], value, m[1])
	}

	// The structs once more, under other names.
	from, to := strings.Index(ours, "typedef struct sqlite3_module"), strings.Index(ours, "#define SQLITE_INDEX_SCAN_UNIQUE")
	if from < 0 || to < from {
		t.Fatal("sqlite_api.h has no structs where they are looked for")
	}
	structs := ours[from:to]
	names := regexp.MustCompile(`\bsqlite3_(module|vtab|vtab_cursor|index_\w+)\b`)
	c.WriteString(names.ReplaceAllString(structs, "our_$1"))
	fields := 0
	for _, m := range regexp.MustCompile(`(?ms)^(?:typedef )?struct sqlite3_(\w+) \{$(.*?)^\}`).FindAllStringSubmatch(structs, -1) {
		body := regexp.MustCompile(`(?s)/\*.*?\*/`).ReplaceAllString(m[2], "")
		body = regexp.MustCompile(`(?s)struct sqlite3_(\w+) \{(.*?)\} \*(\w+);`).ReplaceAllStringFunc(body, func(inner string) string {
			p := regexp.MustCompile(`(?s)struct sqlite3_(\w+) \{(.*?)\} \*(\w+);`).FindStringSubmatch(inner)
			fields += layout(&c, "struct", p[1], p[2])
			return "void *" + p[3] + ";"
		})
		fields += layout(&c, "struct", m[1], body)
	}

	slots := regexp.MustCompile(`#define (sqlite3_\w+) VS_ROUTINE\((sqlite3_\w+), (\d+)\)`).FindAllStringSubmatch(ours, -1)
	for _, m := range slots {
		if m[1] != m[2] {
			t.Errorf("%s goes to the routine of %s", m[1], m[2])
		}
		fmt.Fprintf(&c, "_Static_assert(offsetof(struct sqlite3_api_routines, %s) == %s * sizeof(void *), %q);\n", field[m[1]], m[3], "slot of "+m[1])
	}
	if len(slots) != len(functions)-1 {
		t.Errorf("%d functions have a slot, want all %d but sqlite3_auto_extension", len(slots), len(functions))
	}
	if len(functions) < 80 || len(constants) < 45 || fields < 50 {
		t.Errorf("found %d functions, %d constants and %d fields: the test reads too little", len(functions), len(constants), fields)
	}

	tmp := t.TempDir()
	for name, text := range map[string]string{"api.c": c.String(), "sqlite3.h": `#include "sqlite3-binding.h"`} {
		if err := os.WriteFile(filepath.Join(tmp, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, compiler(t), "-std=gnu11", "-Wall", "-Werror", "-I"+tmp, "-I"+dir, "-c", filepath.Join(tmp, "api.c"), "-o", filepath.Join(tmp, "api.o"))
	t.Logf("%d functions, %d constants, %d fields, %d slots", len(functions), len(constants), fields, len(slots))
}

// layout asserts that struct our_name lies in memory as struct sqlite3_name, and returns how many
// fields it has.
func layout(c *strings.Builder, kind, name, body string) int {
	fmt.Fprintf(c, "_Static_assert(sizeof(%[1]s our_%[2]s) == sizeof(%[1]s sqlite3_%[2]s), \"size of %[2]s\");\n", kind, name)
	fields := regexp.MustCompile(`(?m)\(\*(x\w+)\)\(|(\w+);`).FindAllStringSubmatch(body, -1)
	for _, f := range fields {
		name, field := name, f[1]+f[2]
		fmt.Fprintf(c, "_Static_assert(offsetof(%[1]s our_%[2]s, %[3]s) == offsetof(%[1]s sqlite3_%[2]s, %[3]s), \"%[2]s.%[3]s\");\n", kind, name, field)
		fmt.Fprintf(c, "_Static_assert(sizeof(((%[1]s our_%[2]s *)0)->%[3]s) == sizeof(((%[1]s sqlite3_%[2]s *)0)->%[3]s), \"size of %[2]s.%[3]s\");\n", kind, name, field)
	}
	return len(fields)
}
