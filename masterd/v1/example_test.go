package v1_test

import (
	"fmt"
	"log"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/velosync/velosync/masterd/store"
	v1 "github.com/velosync/velosync/masterd/v1"
)

func Example() {
	dir, err := os.MkdirTemp("", "v1")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	engine, err := store.OpenSQLite(dir, store.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	h := v1.New(engine, v1.Options{Log: slog.New(slog.DiscardHandler)})
	post := func(body string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/sync", strings.NewReader(body)))
		fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	}
	// The checksum is that of the changes, here of an empty list.
	post(`{"protocol_version": 1, "device_id": "old", "base_lsn": 0, "head_lsn": 0, "change_count": 0, "raw_wal_entries": 0, "changes": [],
		"checksum_sha256": "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945", "generated_at": 1700000000.0}`)
	post(`{"protocol_version": 2}`)
	// Output:
	// 200 {"status":"ok","protocol_version":1,"replay_detected":false,"acked_head_lsn":0,"server_seq":0,"applied":0,"conflicts":[],"rejected":[],"pull":[]}
	// 409 {"detail":"protocol_version 2 is not spoken here, this is version 1"}
}
