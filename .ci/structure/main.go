// Command structure checks what a reader relies on: that imports run one way, that
// exported names have documentation, that each public package has an example, and that the
// tests that a document names are there.
//
//	go run ./.ci/structure
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const module = "github.com/velosync/velosync/"

// arrows lists which packages of the module each may import, its tests left out.
var arrows = map[string][]string{
	"capture/change":          {},
	"sql":                     {"capture/change"},
	"sqlfuncs":                {},
	"capture":                 {"capture/change", "sql"},
	"replicator/wire":         {"capture/change"},
	"replicator":              {"capture", "capture/change", "replicator/wire", "sqlfuncs"},
	"driver":                  {"capture", "replicator", "sqlfuncs"},
	"masterd/store":           {"capture/change", "sql", "sqlfuncs"},
	"masterd/store/pgtest":    {},
	"masterd/store/storetest": {"capture/change", "masterd/store", "sql", "sqlfuncs"},
	"masterd/server":          {"capture/change", "masterd/store", "replicator/wire"},
	"masterd/v1":              {"capture/change", "masterd/server", "masterd/store", "sqlfuncs"},
	"masterd/masterdtest":     {"masterd/server", "masterd/store"},
	"masterd":                 {"masterd/server", "masterd/store", "masterd/v1"},
}

// programs may import what they need: they are the ends of the arrows.
var programs = []string{"replicator/velosync", "replicator/bench", "replicator/sim", "examples"}

// wantDocs is the least part of exported names that has a comment.
const wantDocs = 0.95

type pkg struct {
	ImportPath, Dir, Name string
	Imports               []string
	GoFiles, CgoFiles     []string
	TestGoFiles           []string
	XTestGoFiles          []string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	packages, err := list()
	if err != nil {
		return err
	}
	var errs []error
	names, documented := 0, 0
	var bare []string
	for _, p := range packages {
		path := strings.TrimPrefix(p.ImportPath, module)
		errs = append(errs, checkArrows(path, p))
		if p.Name == "main" || path == "replicator/sim" || strings.HasPrefix(path, "examples") {
			continue
		}
		n, missing, err := undocumented(p)
		if err != nil {
			return err
		}
		names, documented = names+n, documented+n-len(missing)
		bare = append(bare, missing...)
		if path == "masterd/store/storetest" {
			continue // the engines' tests are its examples
		}
		if ok, err := hasExample(p); err != nil || !ok {
			errs = append(errs, errors.Join(err, fmt.Errorf("%s has no runnable Example", path)))
		}
	}
	errs = append(errs, checkNoHTTP("./sqlfuncs"), checkNamedTests(packages))
	part := float64(documented) / float64(names)
	fmt.Printf("imports run one way in %d packages; %d of %d exported names are documented (%.1f %%)\n", len(packages), documented, names, 100*part)
	if part < wantDocs {
		errs = append(errs, fmt.Errorf("documentation below %.0f %%: %s", 100*wantDocs, strings.Join(bare, ", ")))
	}
	return errors.Join(errs...)
}

func list() ([]pkg, error) {
	out, err := exec.Command("go", "list", "-json", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var packages []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		switch err := dec.Decode(&p); {
		case err == io.EOF:
			return packages, nil
		case err != nil:
			return nil, err
		}
		packages = append(packages, p)
	}
}

func checkArrows(path string, p pkg) error {
	for _, prefix := range programs {
		if strings.HasPrefix(path, prefix) {
			return nil
		}
	}
	allowed, known := arrows[path]
	if !known {
		return fmt.Errorf("%s is on no floor plan: add it to .ci/structure", path)
	}
	for _, imp := range p.Imports {
		if inner, ok := strings.CutPrefix(imp, module); ok && !slices.Contains(allowed, inner) {
			return fmt.Errorf("%s imports %s, against the direction of the floor plan", path, inner)
		}
	}
	return nil
}

// checkNoHTTP sees that a package pulls in no HTTP, not even through others.
func checkNoHTTP(path string) error {
	out, err := exec.Command("go", "list", "-deps", path).Output()
	if err != nil {
		return fmt.Errorf("go list -deps %s: %w", path, err)
	}
	if slices.Contains(strings.Fields(string(out)), "net/http") {
		return fmt.Errorf("%s pulls in net/http", path)
	}
	return nil
}

// checkNamedTests sees that each test that a document names, in backticks, is there.
func checkNamedTests(packages []pkg) error {
	there := make(map[string]bool)
	for _, p := range packages {
		files, _, err := parse(p, append(slices.Clone(p.TestGoFiles), p.XTestGoFiles...))
		if err != nil {
			return err
		}
		for _, f := range files {
			for _, d := range f.Decls {
				if f, ok := d.(*ast.FuncDecl); ok {
					there[f.Name.Name] = true
				}
			}
		}
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	var errs []error
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range named.FindAllSubmatch(text, -1) {
			if !there[string(m[1])] {
				errs = append(errs, fmt.Errorf("%s names %s, which is no test", path, m[1]))
			}
		}
		return err
	})
	return errors.Join(append(errs, err)...)
}

func parse(p pkg, files []string) ([]*ast.File, *token.FileSet, error) {
	set := token.NewFileSet()
	var parsed []*ast.File
	for _, f := range files {
		a, err := parser.ParseFile(set, filepath.Join(p.Dir, f), nil, parser.ParseComments)
		if err != nil {
			return nil, nil, err
		}
		parsed = append(parsed, a)
	}
	return parsed, set, nil
}

// undocumented counts a package's exported names, and lists those without a comment. A
// name in a group is documented by the group's comment or its line's.
func undocumented(p pkg) (names int, missing []string, err error) {
	files, _, err := parse(p, append(slices.Clone(p.GoFiles), p.CgoFiles...))
	if err != nil {
		return 0, nil, err
	}
	see := func(name string, docs ...*ast.CommentGroup) {
		if !ast.IsExported(name) {
			return
		}
		names++
		for _, d := range docs {
			if d != nil {
				return
			}
		}
		missing = append(missing, strings.TrimPrefix(p.ImportPath, module)+"."+name)
	}
	for _, f := range files {
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil || ast.IsExported(receiver(d)) {
					see(d.Name.Name, d.Doc)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						see(s.Name.Name, d.Doc, s.Doc, s.Comment)
					case *ast.ValueSpec:
						for _, n := range s.Names {
							see(n.Name, d.Doc, s.Doc, s.Comment)
						}
					}
				}
			}
		}
	}
	return names, missing, nil
}

func receiver(d *ast.FuncDecl) string {
	t := d.Recv.List[0].Type
	if s, ok := t.(*ast.StarExpr); ok {
		t = s.X
	}
	if i, ok := t.(*ast.Ident); ok {
		return i.Name
	}
	return ""
}

func hasExample(p pkg) (bool, error) {
	files, _, err := parse(p, append(slices.Clone(p.TestGoFiles), p.XTestGoFiles...))
	if err != nil {
		return false, err
	}
	for _, e := range doc.Examples(files...) {
		if e.Output != "" || e.EmptyOutput {
			return true, nil
		}
	}
	return false, nil
}
