package main

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A document is what one row of the demo holds.
type document struct {
	ID      string // "net/http.Client.Do", "guide/start.md#3"
	Package string // "net/http", "guide"
	Name    string // "Client.Do", "start.md"; empty for the package itself
	Title   string // "func (c *Client) Do(req *Request) (*Response, error)", a heading
	Body    string
}

// maxBody is the most bytes of a document's body; the rest is cut off.
const maxBody = 2000

// goDocuments reads the documentation of the Go standard library under goroot: one document
// for each package, and for each exported constant group, variable group, function, type and
// method that has a doc comment. They come ordered by id.
func goDocuments(ctx context.Context, goroot string) ([]document, error) {
	src := filepath.Join(goroot, "src")
	var docs []document
	err := filepath.WalkDir(src, func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		switch name := d.Name(); {
		case dir == src:
			return nil
		case name == "internal", name == "vendor", name == "testdata", dir == filepath.Join(src, "cmd"), hidden(name):
			return fs.SkipDir
		}
		importPath, err := filepath.Rel(src, dir)
		if err != nil {
			return err
		}
		found, err := packageDocuments(dir, filepath.ToSlash(importPath))
		docs = append(docs, found...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read Go documentation: %w", err)
	}
	return sortDocuments(docs), nil
}

// hidden reports whether the go command would not look into a folder of this name.
func hidden(name string) bool { return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") }

// packageDocuments reads one folder; there are none when it holds no Go package.
func packageDocuments(dir, importPath string) ([]document, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		// Else the functions of every operating system would be declared at once.
		if match, err := build.Default.MatchFile(dir, name); err != nil || !match {
			continue
		}
		f, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		if f.Name.Name != "main" {
			files = append(files, f)
		}
	}
	if len(files) == 0 {
		return nil, nil
	}
	p, err := doc.NewFromFiles(fset, files, importPath)
	if err != nil {
		return nil, err
	}
	var docs []document
	add := func(name, title, body string) {
		if body = strings.TrimSpace(body); body == "" {
			return
		}
		id := importPath
		if name != "" {
			id += "." + name
		}
		docs = append(docs, document{ID: id, Package: importPath, Name: name, Title: title, Body: cut(body, maxBody)})
	}
	values := func(list []*doc.Value, kind string) {
		for _, v := range list {
			names := slices.DeleteFunc(slices.Clone(v.Names), func(name string) bool { return !token.IsExported(name) })
			if len(names) > 0 {
				add(names[0], cut(kind+" "+strings.Join(names, ", "), 200), v.Doc)
			}
		}
	}
	functions := func(list []*doc.Func, typeName string) {
		for _, f := range list {
			name := f.Name
			if f.Recv != "" {
				name = typeName + "." + name
			}
			add(name, signature(fset, f.Decl), f.Doc)
		}
	}
	add("", "package "+importPath, p.Doc)
	values(p.Consts, "const")
	values(p.Vars, "var")
	functions(p.Funcs, "")
	for _, t := range p.Types {
		add(t.Name, "type "+t.Name, t.Doc)
		values(t.Consts, "const")
		values(t.Vars, "var")
		functions(t.Funcs, "")
		functions(t.Methods, t.Name)
	}
	return docs, nil
}

// signature prints a function's head on one line.
func signature(fset *token.FileSet, f *ast.FuncDecl) string {
	head := *f
	head.Doc, head.Body = nil, nil
	var text strings.Builder
	if err := printer.Fprint(&text, fset, &head); err != nil {
		return "func " + f.Name.Name
	}
	line := strings.Join(strings.Fields(text.String()), " ")
	return cut(strings.NewReplacer("( ", "(", ", )", ")").Replace(line), 200) // parameters on lines of their own
}

// findGOROOT returns the folder of the Go that is installed on this machine.
func findGOROOT(ctx context.Context) (string, error) {
	goroot := os.Getenv("GOROOT")
	if goroot == "" {
		out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
		if err != nil && ctx.Err() != nil {
			return "", ctx.Err()
		}
		goroot = strings.TrimSpace(string(out))
	}
	if goroot != "" {
		if _, err := os.Stat(filepath.Join(goroot, "src", "fmt")); err == nil {
			return goroot, nil
		}
	}
	return "", errors.New("no Go with its sources on this machine to read documentation from: " +
		"give a folder of text or Markdown files instead: velosync demo DIR")
}

// textDocuments reads the text and Markdown files under dir, a document for each passage: a
// heading with what follows, or some paragraphs where there are no headings. Hidden files and
// folders are left out, and files that are over 1 MiB or not UTF-8. They come ordered by id.
func textDocuments(ctx context.Context, dir string) ([]document, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("%w: give a folder of text or Markdown files", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s is no folder: give the one that it is in", dir)
	}
	var docs []document
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if file != dir && strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > 1<<20 || !isTextName(d.Name()) {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil || !utf8.Valid(text) {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		docs = append(docs, passages(filepath.ToSlash(rel), string(text))...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read text files: %w", err)
	}
	return sortDocuments(docs), nil
}

func isTextName(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".md", ".markdown", ".txt", ".text", ".rst", ".adoc", ".org", "":
		return true
	}
	return false
}

// passages cuts a text at its headings, and between paragraphs where it grows past 800 bytes.
func passages(file, text string) []document {
	const enough = 800
	var docs []document
	var heading string
	var body []string
	size := 0
	flush := func() {
		if len(body) == 0 {
			return
		}
		title := heading
		if title == "" {
			title, _, _ = strings.Cut(body[0], "\n")
		}
		docs = append(docs, document{
			ID:      file + "#" + strconv.Itoa(len(docs)+1),
			Package: path.Dir(file),
			Name:    path.Base(file),
			Title:   cut(title, 100),
			Body:    cut(strings.Join(body, "\n\n"), maxBody),
		})
		body, size = nil, 0
	}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		paragraph = strings.TrimSpace(paragraph)
		if strings.HasPrefix(paragraph, "#") {
			flush()
			line, rest, _ := strings.Cut(paragraph, "\n")
			heading, paragraph = strings.TrimSpace(strings.TrimLeft(line, "#")), strings.TrimSpace(rest)
		}
		if paragraph == "" {
			continue
		}
		if size > 0 && size+len(paragraph) > enough {
			flush()
		}
		body = append(body, paragraph)
		size += len(paragraph)
	}
	flush()
	return docs
}

// sortDocuments orders by id and drops what would be the same row.
func sortDocuments(docs []document) []document {
	slices.SortStableFunc(docs, func(a, b document) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(docs, func(a, b document) bool { return a.ID == b.ID })
}

// cut returns at most n bytes of s, whole characters, with "…" where something is missing.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const dots = "…"
	n -= len(dots)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + dots
}
