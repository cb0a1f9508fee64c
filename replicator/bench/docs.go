package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/velosync/velosync/sqlfuncs"
)

const dims = 384

// A doc is a row of the workload: 1,822 bytes packed, 1,536 of them the embedding.
type doc struct {
	id, title, body string
	embedding       []byte
	weight          float64
	updatedAt       int64
}

const (
	createDocs = `CREATE TABLE docs(id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, embedding BLOB, weight REAL, updated_at INTEGER)`
	insertDoc  = `INSERT INTO docs(id, title, body, embedding, weight, updated_at) VALUES (?, ?, ?, ?, ?, ?)`
	// trackDocs gives each column a register of its own: a table with a vector column is one
	// merge group otherwise, and a new title would ship the embedding.
	trackDocs = `SELECT velosync_track('docs', '{"groups":[],"weight":"weight"}')`
)

func (d *doc) args() []any {
	return []any{d.id, d.title, d.body, d.embedding, d.weight, d.updatedAt}
}

// A generator makes docs, the same ones for the same seed.
type generator struct {
	r     *rand.Rand
	zipf  *rand.Zipf
	words []string
}

// seed repeats a run's rows.
const seed = 20251125

func newGenerator(stream uint64) *generator {
	g := &generator{r: rand.New(rand.NewPCG(seed, stream))}
	// The same words for every stream, in lengths and letters about as in text.
	w := rand.New(rand.NewPCG(seed, 0))
	const letters = "eeeeeeeeeeeetttttttttaaaaaaaaoooooooiiiiiiinnnnnnnsssssshhhhhhrrrrrrddddlllluuucccmmmwwffggyyppbbvkjxqz"
	for range 2000 {
		b := make([]byte, 2+w.IntN(8))
		for i := range b {
			b[i] = letters[w.IntN(len(letters))]
		}
		g.words = append(g.words, string(b))
	}
	g.zipf = rand.NewZipf(g.r, 1.1, 8, uint64(len(g.words)-1))
	return g
}

// text returns n bytes of words, the frequent ones often.
func (g *generator) text(n int) string {
	b := make([]byte, 0, n+16)
	for len(b) < n {
		b = append(append(b, g.words[g.zipf.Uint64()]...), ' ')
	}
	return string(b[:n])
}

func (g *generator) title() string { return g.text(30) }

// vector returns numbers of a normal distribution, packed: of length about 1, and with
// mantissas that nothing can compress.
func (g *generator) vector() []float32 {
	v := make([]float32, dims)
	for i := range v {
		v[i] = float32(g.r.NormFloat64() * 0.051) // 1/sqrt(384)
	}
	return v
}

func (g *generator) doc(i int) (doc, error) {
	hi, lo := g.r.Uint64()&^0xf000|0x4000, g.r.Uint64()&^(3<<62)|2<<62 // a random uuid
	embedding, err := sqlfuncs.PackF32(g.vector())
	return doc{
		id:        fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xffff, lo>>48, lo&0xffffffffffff),
		title:     g.title(),
		body:      g.text(200),
		embedding: embedding,
		weight:    g.r.Float64(),
		updatedAt: 1_760_000_000_000 + int64(i)*37,
	}, err
}

// docs makes n rows.
func (g *generator) docs(n int) ([]doc, error) {
	list := make([]doc, n)
	for i := range list {
		var err error
		if list[i], err = g.doc(i); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// packedBytes is what a row's values take, packed: with the sizes of the texts and the blob
// 1,822.
const packedBytes = 36 + 30 + 200 + 4*dims + 8 + 8 + 4
