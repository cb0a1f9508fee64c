package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// wordnet is where Debian's package wordnet-base has its data.
const wordnet = "/usr/share/wordnet"

// readTexts returns n short English texts and says what they are: WordNet's glosses with the
// words they explain, or where there is no WordNet, or not enough of it, the comments in the
// sources of Go.
func readTexts(n int) (texts []string, what string, err error) {
	if texts, err = readGlosses(); err != nil {
		return nil, "", err
	}
	what = "WordNet 3.0 glosses"
	if len(texts) < n {
		if texts, err = readComments(); err != nil {
			return nil, "", err
		}
		what = "comments in the sources of Go"
	}
	if len(texts) < n {
		return nil, "", fmt.Errorf("%d texts found, %d asked for: install the Debian package wordnet-base (117,000), or ask for fewer -rows", len(texts), n)
	}
	return texts, what, nil
}

func readGlosses() ([]string, error) {
	var texts []string
	for _, part := range []string{"noun", "verb", "adj", "adv"} {
		data, err := os.ReadFile(filepath.Join(wordnet, "data."+part))
		if os.IsNotExist(err) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			head, gloss, ok := strings.Cut(line, " | ")
			fields := strings.Fields(head)
			if !ok || strings.HasPrefix(line, "  ") || len(fields) < 5 {
				continue // the licence, at the top
			}
			// offset, file, kind, how many words in hex, then each word and its number
			count, err := strconv.ParseInt(fields[3], 16, 32)
			if err != nil || len(fields) < 4+2*int(count) {
				return nil, fmt.Errorf("data.%s: %q", part, head)
			}
			text := gloss
			for i := range int(count) {
				text += " " + strings.ReplaceAll(fields[4+2*i], "_", " ")
			}
			texts = append(texts, text)
		}
	}
	return texts, nil
}

var paragraph = regexp.MustCompile(`(?m)(^\s*//[^\n]*\n)+`)

func readComments() ([]string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	seen := make(map[string]bool)
	var texts []string
	err = filepath.WalkDir(filepath.Join(strings.TrimSpace(string(root)), "src"), func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil || !utf8.Valid(data) {
			return err
		}
		for _, comment := range paragraph.FindAllString(string(data), -1) {
			text := strings.Join(strings.Fields(strings.ReplaceAll(comment, "//", " ")), " ")
			if len(text) > 60 && !seen[text] {
				seen[text] = true
				texts = append(texts, text)
			}
		}
		return nil
	})
	return texts, err
}

// tokens returns the words of text in lower case, without those of one letter.
func tokens(text string) []string {
	var list []string
	scan := bufio.NewScanner(strings.NewReader(strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return ' '
	}, text)))
	scan.Buffer(nil, 1<<24)
	scan.Split(bufio.ScanWords)
	for scan.Scan() {
		if word := scan.Text(); len(word) > 1 {
			list = append(list, word)
		}
	}
	return list
}
