package sqlfuncs

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
)

// eval runs "SELECT expr" and returns its only value.
func eval(t testing.TB, db *sql.DB, expr string, args ...any) (any, error) {
	t.Helper()
	var v any
	err := db.QueryRow("SELECT "+expr, args...).Scan(&v)
	return v, err
}

func TestFunctions_Values(t *testing.T) {
	db := openDB(t, ":memory:")
	tests := []struct {
		name string
		expr string
		want any
	}{
		{"same direction", `cosine_similarity('[1,2,3]', '[2,4,6]')`, 1.0},
		{"opposite", `cosine_similarity('[1,2]', '[-1,-2]')`, -1.0},
		{"orthogonal", `cosine_similarity('[1,0]', '[0,1]')`, 0.0},
		{"zero vector", `cosine_similarity('[0,0]', '[3,4]')`, 0.0},
		{"both zero", `cosine_similarity(vec_f32('[0,0]'), vec_f32('[0,0]'))`, 0.0},
		{"zero vector float64", `cosine_similarity(vec_f64('[0,0]'), vec_f64('[3,4]'))`, 0.0},
		{"itself, float32", `cosine_similarity(vec_f32('[0.1,0.2,0.7]'), vec_f32('[0.1,0.2,0.7]'))`, 1.0},
		{"itself, float64", `cosine_similarity(vec_f64('[0.1,0.2,0.7]'), vec_f64('[0.1,0.2,0.7]'))`, 1.0},
		{"itself, mixed", `cosine_similarity(vec_f64(vec_f32('[0.1,0.2,0.7]')), vec_f32('[0.1,0.2,0.7]'))`, 1.0},
		{"text beside float32 is float32", `cosine_similarity('[0.1,0.2,0.7]', vec_f32('[0.1,0.2,0.7]'))`, 1.0},
		{"text beside float64 is float64", `vec_distance_L2('[0.1,0.2,0.7]', vec_f64('[0.1,0.2,0.7]'))`, 0.0},
		{"distance", `vec_distance_cosine('[1,0]', '[0,1]')`, 1.0},
		{"distance to the opposite", `vec_distance_cosine('[1,0]', '[-1,0]')`, 2.0},
		{"distance to itself", `vec_distance_cosine(vec_f32('[0.1,0.3]'), vec_f32('[0.1,0.3]'))`, 0.0},
		{"distance to zero", `vec_distance_cosine('[1,0]', '[0,0]')`, 1.0},
		{"dot", `dot_product('[1,2,3]', '[4,5,6]')`, 32.0},
		{"dot, float32", `dot_product(vec_f32('[1,2,3]'), vec_f32('[4,5,6]'))`, 32.0},
		{"dot, mixed", `dot_product(vec_f32('[1,2,3]'), vec_f64('[4,5,6]'))`, 32.0},
		{"L2", `vec_distance_L2('[0,0]', '[3,4]')`, 5.0},
		{"L2, float32", `vec_distance_L2(vec_f32('[0,0]'), vec_f32('[3,4]'))`, 5.0},
		{"names are not case-sensitive", `VEC_DISTANCE_L2('[0,0]', '[3,4]')`, 5.0},
		{"L2 of equal vectors", `vec_distance_L2(vec_f32('[3,4]'), '[3,4]')`, 0.0},
		{"one element", `dot_product('[2]', '[3]')`, 6.0},
		{"tagged float32", `dot_product(x'0000803f000000400100' || '', '[1,2]')`, "error"},
		{"tagged float32 blob", `dot_product(x'0000803f0000004001', '[1,2]')`, 5.0},
		{"untagged float64 beside two elements", `dot_product(x'000000000000f03f0000000000000040', '[1,2]')`, 5.0},
		{"untagged float64 as the second", `dot_product(vec_f32('[1,2]'), x'000000000000f03f0000000000000040')`, 5.0},
		{"untagged float64 beside tagged float64", `dot_product(vec_f64('[1,2]'), x'000000000000f03f0000000000000040')`, 5.0},

		{"large float32", `cosine_similarity(vec_f32('[3e38,3e38]'), vec_f32('[3e38,3e38]'))`, 1.0},
		{"large and small float32", `cosine_similarity(vec_f32('[3e38,3e38]'), vec_f32('[-1e-45,-1e-45]'))`, -1.0},
		{"denormal float32", `cosine_similarity(vec_f32('[1e-44,0]'), vec_f32('[1e-44,0]'))`, 1.0},
		{"large float64", `cosine_similarity(vec_f64('[1.7e308,1.7e308]'), vec_f64('[1.7e308,1.7e308]'))`, 1.0},
		{"large and small float64", `cosine_similarity(vec_f64('[1e308,0]'), vec_f64('[5e-324,0]'))`, 1.0},
		{"small beside ordinary float32", `abs(cosine_similarity(vec_f32('[1e-22,2e-22]'), vec_f32('[2,1]')) - 0.8) < 1e-6`, int64(1)},
		{"ordinary beside small float32", `abs(cosine_similarity(vec_f32('[2,1]'), vec_f32('[1e-22,2e-22]')) - 0.8) < 1e-6`, int64(1)},
		{"small beside ordinary float64", `abs(cosine_similarity(vec_f64('[1e-161,2e-161]'), vec_f64('[2,1]')) - 0.8) < 1e-12`, int64(1)},
		{"ordinary beside small float64", `abs(cosine_similarity(vec_f64('[2,1]'), vec_f64('[1e-161,2e-161]')) - 0.8) < 1e-12`, int64(1)},
		{"text beside text is float64", `dot_product('[0.1]', '[1]')`, 0.1},
		{"text too large for float32 beside float32", `dot_product('[1e39]', vec_f32('[1]'))`, 1e39},
		{"small products", `dot_product(vec_f32('[1e-20]'), vec_f32('[1e-20]')) > 0.99e-40`, int64(1)},
		{"large products", `dot_product(vec_f32('[1e30]'), vec_f32('[1e30]')) > 0.99e60`, int64(1)},
		{"products that cancel", `dot_product(vec_f64('[1e200,1e200]'), vec_f64('[1e200,-1e200]'))`, 0.0},
		{"L2 of large float32", `vec_distance_L2(vec_f32('[3e38]'), vec_f32('[-3e38]')) > 5.99e38`, int64(1)},
		{"L2 of large float64", `vec_distance_L2(vec_f64('[8e307]'), vec_f64('[-8e307]'))`, 1.6e308},
		{"L2 of denormal float64", `vec_distance_L2(vec_f64('[5e-324]'), vec_f64('[0]'))`, 5e-324},
		{"L2 of close float32", `vec_distance_L2(vec_f32('[1e-30]'), vec_f32('[0]')) BETWEEN 0.99e-30 AND 1.01e-30`, int64(1)},

		{"length of text", `vec_length('[1,2,3]')`, int64(3)},
		{"length of float32", `vec_length(vec_f32('[1,2,3]'))`, int64(3)},
		{"length of float64", `vec_length(vec_f64('[1,2,3]'))`, int64(3)},
		{"type of text", `vec_type('[1e300]')`, "float32"},
		{"type of float32", `vec_type(vec_f32('[1]'))`, "float32"},
		{"type of tagged float32", `vec_type(x'0000803f01')`, "float32"},
		{"type of float64", `vec_type(vec_f64('[1]'))`, "float64"},
		{"normalize", `vec_to_json(vec_normalize('[3,4]'))`, "[0.6,0.8]"},
		{"normalize keeps float64", `vec_type(vec_normalize(vec_f64('[3,4]')))`, "float64"},
		{"normalize float64", `vec_to_json(vec_normalize(vec_f64('[3,4]')))`, "[0.6,0.8]"},
		{"normalize zero", `vec_to_json(vec_normalize('[0,0]'))`, "[0,0]"},
		{"normalize large", `vec_to_json(vec_normalize(vec_f64('[1.7e308,0]')))`, "[1,0]"},
		{"normalize denormal", `vec_to_json(vec_normalize(vec_f64('[0,-5e-324]')))`, "[0,-1]"},
		{"to json", `vec_to_json(vec_f32('[1, -2.5 ,0.1,1e-7,-0,16777216,3.4028235e38]'))`, "[1,-2.5,0.1,1e-7,-0,16777216,3.4028235e38]"},
		{"to json, float64", `vec_to_json(vec_f64('[0.1,1e300,123456789.125,5e-324,1.7976931348623157e308]'))`, "[0.1,1e300,123456789.125,5e-324,1.7976931348623157e308]"},
		{"to json of text", "vec_to_json(' [1 ,\t2.50,\n3E2 ] \r')", "[1,2.5,300]"},
		{"float64 to float32", `vec_to_json(vec_f32(vec_f64('[0.1]')))`, "[0.1]"},
		{"float32 to float64", `vec_to_json(vec_f64(vec_f32('[0.1]')))`, "[0.10000000149011612]"},

		{"null first", `cosine_similarity(NULL, 'nonsense')`, nil},
		{"null second", `dot_product('nonsense', NULL)`, nil},
		{"null L2", `vec_distance_L2(NULL, NULL)`, nil},
		{"null distance", `vec_distance_cosine(NULL, '[1]')`, nil},
		{"null vec_f32", `vec_f32(NULL)`, nil},
		{"null vec_f64", `vec_f64(NULL)`, nil},
		{"null vec_to_json", `vec_to_json(NULL)`, nil},
		{"null vec_length", `vec_length(NULL)`, nil},
		{"null vec_type", `vec_type(NULL)`, nil},
		{"null vec_normalize", `vec_normalize(NULL)`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := eval(t, db, tt.expr)
			if tt.want == "error" {
				if err == nil {
					t.Fatalf("%s = %v, want an error", tt.expr, got)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", tt.expr, err)
			}
			if got != tt.want {
				t.Errorf("%s = %v, want %v", tt.expr, got, tt.want)
			}
		})
	}
}

func TestFunctions_Errors(t *testing.T) {
	db := openDB(t, ":memory:")
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	tests := []struct {
		expr string
		args []any
		want string // the whole message
	}{
		{`dot_product(x'00000000', x'000000000000000000000000')`, nil,
			"dot_product: the first has 1 dimensions, the second 3; compare vectors that one model made"},
		{`dot_product(x'0000803f0000004001', '[1]')`, nil, // tagged: not one float64
			"dot_product: the first has 2 dimensions, the second 1; compare vectors that one model made"},
		{`cosine_similarity('[1,2,3]', vec_f64('[1,2]'))`, nil,
			"cosine_similarity: the first has 3 dimensions, the second 2; compare vectors that one model made"},
		{`cosine_similarity(x'', '[1]')`, nil,
			"cosine_similarity: argument 1 is an empty blob; a vector has at least one element"},
		{`cosine_similarity('[1]', x'0102')`, nil,
			"cosine_similarity: argument 2 is a blob of 2 bytes; a float32 vector takes a multiple of 4, other types one more byte that names the type: write vectors with vec_f32 or vec_f64"},
		{`vec_length(x'00000002')`, nil, ""},
		{`vec_length(x'000002')`, nil,
			"vec_length: argument 1 is a blob of 3 bytes with type byte 2 (float64); it takes a multiple of 8 and the type byte"},
		{`vec_length(x'02')`, nil, "vec_length: argument 1 has no elements before its type byte; a vector has at least one"},
		{`vec_f32(x'ff0003')`, nil,
			"vec_f32: argument 1 has type byte 3 (1-bit), which is not supported yet by this build; store it with vec_f32 or vec_f64"},
		{`vec_f32(x'ff0004')`, nil,
			"vec_f32: argument 1 has type byte 4 (8-bit), which is not supported yet by this build; store it with vec_f32 or vec_f64"},
		{`vec_f32(x'ff0005')`, nil,
			"vec_f32: argument 1 has type byte 5 (float16), which is not supported yet by this build; store it with vec_f32 or vec_f64"},
		{`vec_f32(x'ff0006')`, nil,
			"vec_f32: argument 1 has type byte 6 (bfloat16), which is not supported yet by this build; store it with vec_f32 or vec_f64"},
		{`vec_f32(x'00003f')`, nil,
			"vec_f32: argument 1 is a blob of 3 bytes with the unknown type byte 63; an odd length ends with 1 (float32) or 2 (float64), an even one is float32"},
		{`cosine_similarity(7, '[1]')`, nil,
			"cosine_similarity: argument 1 is a number; a vector is a blob, or a JSON array as text"},
		{`vec_type(1.5)`, nil, "vec_type: argument 1 is a number; a vector is a blob, or a JSON array as text"},
		{`dot_product(?, '[1,2]')`, []any{raw32(1, nan)},
			"dot_product: argument 1 has NaN as element [1], counting from 0; vectors hold finite numbers"},
		{`cosine_similarity('[1,2]', ?)`, []any{raw32(inf, 1)},
			"cosine_similarity: argument 2 has -infinity as element [0], counting from 0; vectors hold finite numbers"},
		{`vec_distance_L2(?1, ?1)`, []any{raw32(inf, 1)},
			"vec_distance_L2: argument 1 has -infinity as element [0], counting from 0; vectors hold finite numbers"},
		{`dot_product(vec_f32('[0,0]'), ?)`, []any{raw32(0, nan)},
			"dot_product: argument 2 has NaN as element [1], counting from 0; vectors hold finite numbers"},
		{`vec_normalize(?)`, []any{raw32(nan)},
			"vec_normalize: argument 1 has NaN as element [0], counting from 0; vectors hold finite numbers"},
		{`vec_to_json(?)`, []any{raw32(nan)},
			"vec_to_json: argument 1 has NaN as element [0], counting from 0; vectors hold finite numbers"},
		{`vec_f64(?)`, []any{raw32(nan)},
			"vec_f64: argument 1 has NaN as element [0], counting from 0; vectors hold finite numbers"},
		{`vec_f32('[1,1e39]')`, nil,
			"vec_f32: argument 1 has an element [1], counting from 0, beyond the range of a float32; keep it as float64 with vec_f64"},
		{`dot_product(vec_f64('[1e200]'), '[1e200]')`, nil,
			"dot_product: the result is beyond the range of a float64; scale the vectors down"},
		{`vec_distance_L2(vec_f64('[1.7e308]'), '[-1.7e308]')`, nil,
			"vec_distance_L2: the result is beyond the range of a float64; scale the vectors down"},
		{`vec_length(zeroblob(4*65537))`, nil, "vec_length: argument 1 has 65537 dimensions; the most is 65536"},
		{`vec_length(zeroblob(4*65536))`, nil, ""},
		{`dot_product(zeroblob(4*65537), zeroblob(4*65537))`, nil, "dot_product: argument 1 has 65537 dimensions; the most is 65536"},
		{`dot_product(zeroblob(8*65536), zeroblob(4*65536))`, nil, ""},
		{`vec_length('[' || ? || '0]')`, []any{strings.Repeat("0,", 65536)}, "vec_length: argument 1 has more than 65536 dimensions"},
		{`vec_length('[' || ? || '0]')`, []any{strings.Repeat("0,", 65535)}, ""},

		{`vec_f32('')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: the text ends after character 0, where '[' should follow"},
		{`vec_f32('[]')`, nil, "vec_f32: argument 1 is an empty JSON array; a vector has at least one element"},
		{`vec_f32('[1,2')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: the text ends after character 4, where ',' or ']' should follow"},
		{`vec_f32('[1,,2]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: ',' at character 4, where a number should be"},
		{`vec_f32('[1,2,]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: ']' at character 6, where a number should be"},
		{`vec_f32('[1 2]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: '2' at character 4, where ',' or ']' should be"},
		{`vec_f32('[01]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: '1' at character 3, where ',' or ']' should be"},
		{`vec_f32('[+1]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: '+' at character 2, where a number should be"},
		{`vec_f32('[.5]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: '.' at character 2, where a number should be"},
		{`vec_f32('[5.]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: ']' at character 4, where a digit should be"},
		{`vec_f32('[-]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: ']' at character 3, where a digit should be"},
		{`vec_f32('[1e]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: ']' at character 4, where a digit should be"},
		{`vec_f32('[1e+')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: the text ends after character 4, where a digit should follow"},
		{`vec_f32('[NaN]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: 'N' at character 2, where a number should be"},
		{`vec_f32('[null]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: 'n' at character 2, where a number should be"},
		{`vec_f32('["1"]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: '\"' at character 2, where a number should be"},
		{`vec_f32('[[1]]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: '[' at character 2, where a number should be"},
		{`vec_f32('{}')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: '{' at character 1, where '[' should be"},
		{`vec_f32('[1]x')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: 'x' at character 4, where the end should be"},
		{`vec_f32('[1' || char(0) || ']')`, nil, `vec_f32: argument 1 is not a JSON array of numbers: \x00 at character 3, where ',' or ']' should be`},
		{`vec_f32('[1, é]')`, nil, `vec_f32: argument 1 is not a JSON array of numbers: \xc3 at character 5, where a number should be`},
		{`vec_f64('[0, 1e309]')`, nil, "vec_f64: argument 1 has a number at character 5 that is beyond the range of a float64"},
		{`vec_f32('[0x10]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: 'x' at character 3, where ',' or ']' should be"},
		{`cosine_similarity('[1]')`, nil, "wrong number of arguments to function cosine_similarity()"},
	}
	for _, tt := range tests {
		t.Run(tt.expr, func(t *testing.T) {
			got, err := eval(t, db, tt.expr, tt.args...)
			if tt.want == "" {
				if err != nil {
					t.Fatalf("got error %v", err)
				}
				return
			}
			if err == nil {
				t.Fatalf("got %v, want error %q", got, tt.want)
			}
			if err.Error() != tt.want {
				t.Errorf("got error\n%q\nwant\n%q", err, tt.want)
			}
		})
	}
}

// raw32 packs elements without looking at them.
func raw32(v ...float32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// raw64 packs elements without looking at them, and without the type byte.
func raw64(v ...float64) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
	}
	return b
}

// An argument that stays the same is kept from row to row; one that changes must not be.
func TestFunctions_KeepsArguments(t *testing.T) {
	db := openDB(t, ":memory:")
	mustExec(t, db, `CREATE TABLE v(id INTEGER PRIMARY KEY, e, j TEXT)`)
	for i := range 50 {
		e := Vector{float32(i), 1}
		mustExec(t, db, `INSERT INTO v VALUES (?, ?, ?)`, i, e, fmt.Sprintf("[%d, 1]", i))
	}
	queries := []struct {
		name  string
		query string
		args  []any
	}{
		{"parameter second", `dot_product(e, ?)`, []any{Vector{2, 3}}},
		{"parameter first", `dot_product(?, e)`, []any{Vector{2, 3}}},
		{"text parameter", `dot_product(e, ?)`, []any{"[2, 3]"}},
		{"float64 parameter", `dot_product(e, ?)`, []any{Vector64{2, 3}}},
		{"literal", `dot_product(e, vec_f32('[2,3]'))`, nil},
		{"text literal", `dot_product('[2,3]', e)`, nil},
		{"text column", `dot_product(j, ?)`, []any{Vector{2, 3}}},
		{"text column and text", `dot_product(j, '[2,3]')`, nil},
		{"two calls in one row", `dot_product(e, ?1) + dot_product(?2, j)`, []any{Vector{1, 1}, Vector{1, 2}}},
		{"untagged float64 parameter", `dot_product(e, ?)`, []any{raw64(2, 3)}},
	}
	for _, tt := range queries {
		t.Run(tt.name, func(t *testing.T) {
			rows, err := db.Query(`SELECT id, `+tt.query+` FROM v`, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			n := 0
			for ; rows.Next(); n++ {
				var id int
				var got float64
				if err := rows.Scan(&id, &got); err != nil {
					t.Fatal(err)
				}
				if want := float64(2*id + 3); got != want {
					t.Errorf("row %d: got %v, want %v", id, got, want)
				}
			}
			if err := rows.Err(); err != nil || n != 50 {
				t.Fatalf("%d rows, %v", n, err)
			}
		})
	}
	t.Run("norm of a kept vector", func(t *testing.T) {
		for _, query := range []string{`cosine_similarity(e, ?)`, `cosine_similarity(?, e)`} {
			rows, err := db.Query(`SELECT id, `+query+` FROM v`, Vector{2, 3})
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				var id, got float64
				if err := rows.Scan(&id, &got); err != nil {
					t.Fatal(err)
				}
				if want := (2*id + 3) / math.Sqrt(13*(id*id+1)); math.Abs(got-want) > 1e-6 {
					t.Errorf("%s of row %v: got %v, want %v", query, id, got, want)
				}
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("a prepared statement run with another vector", func(t *testing.T) {
		stmt, err := db.Prepare(`SELECT sum(dot_product(e, ?)) FROM v`)
		if err != nil {
			t.Fatal(err)
		}
		defer stmt.Close()
		for i := range 3 {
			var got float64
			if err := stmt.QueryRow(Vector{0, float32(i)}).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if want := float64(50 * i); got != want {
				t.Errorf("run %d: got %v, want %v", i, got, want)
			}
		}
	})
}

// Deterministic functions may stand in an index, innocuous ones in a view that cannot be trusted.
func TestFunctions_Flags(t *testing.T) {
	db := openDB(t, ":memory:")
	mustExec(t, db, `PRAGMA trusted_schema=OFF`)
	mustExec(t, db, `CREATE TABLE d(id INTEGER PRIMARY KEY, e BLOB CHECK (vec_length(e) = 2), t AS (vec_type(e)))`)
	mustExec(t, db, `CREATE INDEX d_dim ON d(vec_length(e))`)
	mustExec(t, db, `CREATE VIEW near AS SELECT id, cosine_similarity(e, '[1,0]') AS c FROM d`)
	mustExec(t, db, `INSERT INTO d VALUES (1, vec_f32('[1,0]'))`)
	var c float64
	if err := db.QueryRow(`SELECT c FROM near`).Scan(&c); err != nil || c != 1 {
		t.Errorf("view gave %v, %v; want 1", c, err)
	}
	if _, err := db.Exec(`INSERT INTO d VALUES (2, vec_f32('[1,0,0]'))`); err == nil {
		t.Error("the CHECK let a vector of 3 dimensions pass")
	}
}

func TestFunctions_UTF16(t *testing.T) {
	db := openDB(t, ":memory:")
	mustExec(t, db, `PRAGMA encoding='UTF-16'`)
	mustExec(t, db, `CREATE TABLE t(j TEXT)`)
	mustExec(t, db, `INSERT INTO t VALUES ('[1.5,2]')`)
	var got float64
	if err := db.QueryRow(`SELECT dot_product(j, j) FROM t`).Scan(&got); err != nil || got != 6.25 {
		t.Errorf("got %v, %v; want 6.25", got, err)
	}
}

func TestFunctions_PackedForms(t *testing.T) {
	db := openDB(t, ":memory:")
	got, err := eval(t, db, `vec_f32('[1,-2]')`)
	if err != nil {
		t.Fatal(err)
	}
	if want := raw32(1, -2); !bytes.Equal(got.([]byte), want) {
		t.Errorf("vec_f32 gave %x, want %x", got, want)
	}
	got, err = eval(t, db, `vec_f64('[1,-2]')`)
	if err != nil {
		t.Fatal(err)
	}
	if want := append(raw64(1, -2), 2); !bytes.Equal(got.([]byte), want) {
		t.Errorf("vec_f64 gave %x, want %x", got, want)
	}
}
