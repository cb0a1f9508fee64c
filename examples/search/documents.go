package main

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// A document is what one row holds.
type document struct {
	path, title, body string
}

// readText reads the text and Markdown files under dir, a document for each section: a heading
// with what follows. Hidden files are left out.
func readText(dir string) ([]document, error) {
	var docs []document
	err := walk(dir, []string{".txt", ".md", ".rst"}, func(path, text string) {
		title, body := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), ""
		add := func() {
			if body = strings.TrimSpace(body); body != "" {
				docs = append(docs, document{path, title, body})
			}
			body = ""
		}
		for line := range strings.Lines(text) {
			if heading, ok := strings.CutPrefix(line, "#"); ok {
				add()
				title = strings.Trim(heading, "# \r\n")
				continue
			}
			body += line
		}
		add()
	})
	return docs, err
}

// readGo reads the documentation of the Go packages under src: a document for each package and
// each exported declaration that has a comment.
func readGo(src string) ([]document, error) {
	var docs []document
	set := token.NewFileSet()
	err := walk(src, []string{".go"}, func(path, text string) {
		pkg := filepath.ToSlash(filepath.Dir(path))
		if strings.HasSuffix(path, "_test.go") || strings.Contains("/"+pkg+"/", "/internal/") || strings.HasPrefix(pkg, "cmd") || strings.HasPrefix(pkg, "vendor") {
			return
		}
		file, err := parser.ParseFile(set, path, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return // documentation of the others is still worth reading
		}
		add := func(name string, comment *ast.CommentGroup) {
			if body := strings.TrimSpace(comment.Text()); body != "" {
				docs = append(docs, document{pkg, name, body})
			}
		}
		add("package "+file.Name.Name, file.Doc)
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() {
					add(receiver(d)+d.Name.Name, d.Doc)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if t, ok := spec.(*ast.TypeSpec); ok && t.Name.IsExported() {
						add(t.Name.Name, cmp.Or(t.Doc, d.Doc))
					}
				}
			}
		}
	})
	// The same name is declared once for each operating system.
	slices.SortStableFunc(docs, func(a, b document) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.title, b.title))
	})
	return slices.CompactFunc(docs, func(a, b document) bool { return a.path == b.path && a.title == b.title }), err
}

// receiver returns "Client." for a method of Client or *Client.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	t := f.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if name, ok := t.(*ast.Ident); ok {
		return name.Name + "."
	}
	return ""
}

// walk calls see with the path below dir and the content of each file that ends so.
func walk(dir string, endings []string, see func(path, text string)) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if file != dir && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || strings.HasPrefix(d.Name(), ".") || !slices.Contains(endings, filepath.Ext(file)) {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil || !utf8.Valid(text) {
			return err
		}
		below, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		see(filepath.ToSlash(below), string(text))
		return nil
	})
}
