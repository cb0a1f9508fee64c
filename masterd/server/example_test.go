package server_test

import (
	"crypto/rand"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
)

func Example() {
	dir, err := os.MkdirTemp("", "masterd")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	engine, err := store.OpenSQLite(dir, store.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	s := server.New(engine, server.Options{})
	defer s.Close()

	ask := func(path, token string) {
		r := httptest.NewRequest("GET", path, nil)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		fmt.Println(path, w.Code)
	}
	token, hash, err := server.NewToken(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.HasPrefix(token, "vst_"), len(hash))
	ask("/health", "")
	ask("/stats", "")
	ask("/stats", token) // not in the store: a token of nobody
	// Output:
	// true 32
	// /health 200
	// /stats 401
	// /stats 401
}
