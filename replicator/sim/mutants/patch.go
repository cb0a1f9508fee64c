package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// A mutant is a break of the product's code.
type mutant struct {
	name  string // what the code does then
	file  string // from the module's root
	edits []edit
	// test names the kept test that finds the mutant, as arguments of go test, where it is
	// of a kind that no schedule shows. Empty: a simulation finds it.
	test string
}

// An edit replaces a text that is in the file exactly once.
type edit struct{ old, new string }

func broken(name, file, old, new string) mutant {
	return mutant{name: name, file: file, edits: []edit{{old, new}}}
}

// by says which test finds a mutant.
func (m mutant) by(test string) mutant {
	m.test = test
	return m
}

// also adds an edit.
func (m mutant) also(old, new string) mutant {
	m.edits = append(m.edits[:len(m.edits):len(m.edits)], edit{old, new})
	return m
}

// source returns the file as the mutant has it.
func (m mutant) source(root string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return "", fmt.Errorf("mutant %q: %w", m.name, err)
	}
	text := string(b)
	for _, e := range m.edits {
		if n := strings.Count(text, e.old); n != 1 {
			return "", fmt.Errorf("mutant %q: %s has this text %d times, want once; where the code has changed, change the mutant:\n%s", m.name, m.file, n, e.old)
		}
		text = strings.Replace(text, e.old, e.new, 1)
	}
	if strings.HasSuffix(m.file, ".go") {
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, text, 0); err != nil {
			return "", fmt.Errorf("mutant %q: %w", m.name, err)
		}
	}
	return text, nil
}

// valid checks that all mutants can be made.
func valid(root string, list []mutant) error {
	var errs []error
	names := make(map[string]bool)
	for _, m := range list {
		if names[m.name] {
			errs = append(errs, fmt.Errorf("two mutants are named %q", m.name))
		}
		names[m.name] = true
		_, err := m.source(root)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// overlay writes the mutant's file and the overlay that puts it in the place of the real
// one, and returns the overlay's name.
func (m mutant) overlay(root, dir string) (string, error) {
	text, err := m.source(root)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	file, overlay := filepath.Join(dir, filepath.Base(m.file)), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, m.file): file}})
	if err != nil {
		return "", err
	}
	return overlay, os.WriteFile(overlay, b, 0o600)
}
