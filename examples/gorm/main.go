// Command gorm uses VeloSync under GORM: the dialect is GORM's own for SQLite, the driver
// ours. GORM migrates by copying tables; the triggers that takes away are mended at the
// next round.
//
//	go run ./examples/gorm
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	_ "github.com/velosync/velosync/driver"
	"github.com/velosync/velosync/sqlfuncs"
)

// A Note is a row. Its key is text that the application draws.
type Note struct {
	ID        string `gorm:"primaryKey;not null"`
	Title     string
	Embedding sqlfuncs.Vector `gorm:"type:blob"`
}

func main() {
	dir, err := os.MkdirTemp("", "gorm")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := run(filepath.Join(dir, "notes.db")); err != nil {
		log.Fatal(err)
	}
}

func run(file string) error {
	db, err := gorm.Open(sqlite.Dialector{DriverName: "velosync", DSN: file}, &gorm.Config{})
	if err != nil {
		return err
	}
	defer func() {
		if pool, err := db.DB(); err == nil {
			pool.Close()
		}
	}()
	if err := db.AutoMigrate(&Note{}); err != nil {
		return err
	}
	if err := db.Exec(`SELECT velosync_track('notes')`).Error; err != nil {
		return err
	}
	if err := db.Create([]Note{{"t", "tea", sqlfuncs.Vector{1, 0.1}}, {"c", "coffee", sqlfuncs.Vector{0.9, 0.3}}, {"b", "bicycle", sqlfuncs.Vector{0, 1}}}).Error; err != nil {
		return err
	}
	if err := db.Model(&Note{ID: "b"}).Update("title", "bike").Error; err != nil {
		return err
	}
	var near []Note
	if err := db.Order(gorm.Expr("cosine_similarity(embedding, ?) DESC", sqlfuncs.Vector{1, 0.2})).Limit(2).Find(&near).Error; err != nil {
		return err
	}
	for _, n := range near {
		fmt.Println(n.Title)
	}
	var pending, mutations int
	if err := db.Raw(`SELECT count(*), sum(mutations) FROM velosync_pending`).Row().Scan(&pending, &mutations); err != nil {
		return err
	}
	fmt.Printf("%d rows wait, %d mutations\n", pending, mutations)
	return nil
}
