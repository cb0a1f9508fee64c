package sqlfuncs

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"slices"
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

// Every function gives the same with the kernels of every instruction set.
func TestFunctions_Values(t *testing.T) {
	db := openDB(t, ":memory:") // chooses the kernels
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

		{"L1", `vec_distance_L1('[0,0]', '[3,-4]')`, 7.0},
		{"L1, float32", `vec_distance_L1(vec_f32('[0,1.5]'), vec_f32('[3,-4]'))`, 8.5},
		{"L1 of large float32", `vec_distance_L1(vec_f32('[3e38,3e38]'), vec_f32('[-3e38,-3e38]')) BETWEEN 1.19e39 AND 1.21e39`, int64(1)},
		{"L1 of large float64 that cancel", `vec_distance_L1(vec_f64('[1.7e308,1]'), vec_f64('[1.7e308,0]'))`, 1.0},
		{"L1 of denormal float64", `vec_distance_L1(vec_f64('[5e-324,0]'), vec_f64('[0,5e-324]'))`, 1e-323},
		{"L1 of denormal float32", `vec_distance_L1(vec_f32('[1e-45]'), '[0]') BETWEEN 1.4e-45 AND 1.41e-45`, int64(1)},

		{"float16", `vec_to_json(vec_f16('[0.1,-2,65504,6e-8,1e-9]'))`, "[0.1,-2,65504,6e-8,0]"},
		{"bfloat16", `vec_to_json(vec_bf16('[0.1,-2,3e38,1e-45]'))`, "[0.1,-2,3e38,0]"},
		{"float16 as float32", `vec_to_json(vec_f32(vec_f16('[0.1]')))`, "[0.099975586]"},
		{"float64 to float16 is rounded once", `vec_to_json(vec_f64(vec_f16(vec_f64('[1.00048828125000001]'))))`, "[1]"},
		{"float64 above a tie to float16", `vec_to_json(vec_f64(vec_f16(vec_f64('[1.0004882812500002]'))))`, "[1.0009765625]"},
		{"dot, float16", `dot_product(vec_f16('[1,2,3]'), vec_f16('[4,5,6]'))`, 32.0},
		{"dot, float16 and float32", `dot_product(vec_f16('[1,2,3]'), vec_f32('[4,5,6]'))`, 32.0},
		{"dot, float32 and bfloat16", `dot_product(vec_f32('[1,2,3]'), vec_bf16('[4,5,6]'))`, 32.0},
		{"dot, float16 and bfloat16", `dot_product(vec_f16('[1,2,3]'), vec_bf16('[4,5,6]'))`, 32.0},
		{"dot, float64 and bfloat16", `dot_product(vec_f64('[1,2,3]'), vec_bf16('[4,5,6]'))`, 32.0},
		{"dot, float8 and float16", `dot_product(x'00010203ff0000000000803f00000000000304', vec_f16('[0,1,0,0,2]'))`, 511.0},
		{"cosine of float8 with itself", `abs(cosine_similarity(x'00010203ff0000000000803f00000000000304', x'00010203ff0000000000803f00000000000304') - 1) < 1e-15`, int64(1)},
		{"untagged float64 beside float16", `dot_product(vec_f16('[1,2]'), x'000000000000f03f0000000000000040')`, 5.0},
		{"text beside float16", `dot_product('[4,5,6]', vec_f16('[1,2,3]'))`, 32.0},
		{"itself, float16", `cosine_similarity(vec_f16('[0.1,0.2,0.7]'), vec_f16('[0.1,0.2,0.7]'))`, 1.0},
		{"itself, float16 as float32", `cosine_similarity(vec_f16('[0.1,0.2,0.7]'), vec_f32(vec_f16('[0.1,0.2,0.7]')))`, 1.0},
		{"itself, bfloat16", `cosine_similarity(vec_bf16('[0.1,0.2,0.7]'), vec_bf16('[0.1,0.2,0.7]'))`, 1.0},
		{"L2, bfloat16", `vec_distance_L2(vec_bf16('[0,0]'), vec_bf16('[3,4]'))`, 5.0},
		{"L1, float16", `vec_distance_L1(vec_f16('[0,0]'), vec_f32('[3,-4]'))`, 7.0},
		{"large bfloat16", `cosine_similarity(vec_bf16('[3e38,3e38]'), vec_bf16('[3e38,3e38]'))`, 1.0},
		{"denormal float16", `cosine_similarity(vec_f16('[6e-8,0]'), vec_f16('[6e-8,0]'))`, 1.0},
		{"zero float16", `cosine_similarity(vec_f16('[0,0]'), vec_f16('[1,0]'))`, 0.0},

		{"dot, int8", `dot_product(vec_int8('[1,2,-128]'), vec_int8('[4,5,-128]'))`, 16398.0},
		{"dot, int8 and text", `dot_product(vec_int8('[1,2,3]'), '[4,5,6]')`, 32.0},
		{"cosine, int8", `cosine_similarity(vec_int8('[3,4]'), vec_int8('[4,3]'))`, 0.96},
		{"cosine of int8 with itself", `cosine_similarity(vec_int8('[-128,127,1]'), vec_int8('[-128,127,1]'))`, 1.0},
		{"cosine of zero int8", `cosine_similarity(vec_int8('[0,0]'), vec_int8('[4,3]'))`, 0.0},
		{"L2, int8", `vec_distance_L2(vec_int8('[-128,0]'), vec_int8('[127,0]'))`, 255.0},
		{"L1, int8", `vec_distance_L1(vec_int8('[-128,5]'), vec_int8('[127,-5]'))`, 265.0},
		{"hamming", `vec_distance_hamming(vec_bit(x'00'), vec_bit(x'ff'))`, 8.0},
		{"hamming of 12 bits", `vec_distance_hamming(vec_bit('[1,1,0,0,1,1,0,0,1,1,0,0]'), '[1,1,0,0,1,1,0,0,1,1,1,1]')`, 2.0},
		{"hamming of text", `vec_distance_hamming('[1,0]', '[0,1]')`, 2.0},
		{"hamming with bits beyond the end", `vec_distance_hamming(x'ff0d03', x'f80d03')`, 3.0},
		{"dot of bits", `dot_product(vec_bit('[1,1,0,1]'), vec_bit('[1,0,0,1]'))`, 2.0},
		{"cosine of bits", `cosine_similarity(vec_bit('[1,1,1,1]'), vec_bit('[1,0,0,0]'))`, 0.5},
		{"cosine of zero bits", `cosine_similarity(vec_bit('[0,0]'), vec_bit('[1,0]'))`, 0.0},
		{"L2 of bits", `vec_distance_L2(vec_bit('[1,1,1,1]'), vec_bit('[0,0,0,0]'))`, 2.0},
		{"L1 of bits", `vec_distance_L1(vec_bit('[1,1,1,0]'), '[0,0,0,0]')`, 3.0},

		// sqlite-vec's own examples
		{"vec_int8 of raw bytes", `vec_to_json(vec_int8(x'AABBCCDD'))`, "[-86,-69,-52,-35]"},
		{"vec_bit of a raw byte", `vec_to_json(vec_bit(x'F0'))`, "[0,0,0,0,1,1,1,1]"},
		{"vec_length of raw bits", `vec_length(vec_bit(x'AABB'))`, int64(16)},
		{"vec_add", `vec_to_json(vec_add('[.1, .2, .3]', '[.4, .5, .6]'))`, "error"}, // .1 is no JSON
		{"vec_add of text", `vec_to_json(vec_add('[0.1,0.2,0.3]', '[0.4,0.5,0.6]'))`, "[0.5,0.7,0.9]"},
		{"vec_add of int8", `vec_to_json(vec_add(vec_int8('[1,2,3]'), vec_int8('[4,5,6]')))`, "[5,7,9]"},
		{"vec_sub of int8 and text", `vec_to_json(vec_sub(vec_int8('[1,2,3]'), '[4,5,6]'))`, "[-3,-3,-3]"},
		{"vec_slice", `vec_to_json(vec_slice('[1, 2,3, 4]', 1, 3))`, "[2,3]"},
		{"vec_quantize_binary", `vec_to_json(vec_quantize_binary('[1, 2, 3, 4, -5, -6, -7, -8]'))`, "[1,1,1,1,0,0,0,0]"},

		{"vec_int8 of an int8", `vec_int8(vec_int8('[1,2,3]')) = vec_int8('[1,2,3]')`, int64(1)},
		{"vec_int8 of a float64", `vec_to_json(vec_int8(vec_f64('[1,-2]')))`, "[1,-2]"},
		{"vec_bit of bits", `vec_to_json(vec_bit(vec_bit('[1,0,1]')))`, "[1,0,1]"},
		{"vec_f32 of int8", `vec_to_json(vec_f32(vec_int8('[1,-128]')))`, "[1,-128]"},
		{"vec_f16 of bits", `vec_to_json(vec_f16(vec_bit('[1,0]')))`, "[1,0]"},
		{"vec_f32 of float8", `vec_to_json(vec_f32(x'000408df0000003e000080bf000004'))`, "[-1,-0.5,0,26.875]"},
		{"type of a sum", `vec_type(vec_add(vec_f16('[1]'), vec_f16('[1]')))`, "float16"},
		{"type of a mixed sum", `vec_type(vec_add(vec_f16('[1]'), vec_bf16('[1]')))`, "float32"},
		{"type of a sum with float64", `vec_type(vec_add(vec_f64('[1]'), vec_bf16('[1]')))`, "float64"},
		{"type of a sum with text", `vec_type(vec_add('[1]', vec_f16('[1]')))`, "float16"},
		{"sum with untagged float64", `vec_to_json(vec_add(x'000000000000f03f0000000000000040', '[1,1]'))`, "[2,3]"},
		{"sum of large float64 that fits", `vec_to_json(vec_sub(vec_f64('[1.7e308]'), vec_f64('[1.7e308]')))`, "[0]"},
		{"slice of float64", `vec_type(vec_slice(vec_f64('[1,2]'), 0, 1))`, "float64"},
		{"slice of int8", `vec_to_json(vec_slice(vec_int8('[1,2,3]'), 2, 3))`, "[3]"},
		{"slice of bits", `vec_to_json(vec_slice(vec_bit('[1,0,1,1,0,1,0,1,1,1]'), 3, 10))`, "[1,0,1,0,1,1,1]"},
		{"slice of float16", `vec_to_json(vec_slice(vec_f16('[1,2.5]'), 1, 2))`, "[2.5]"},
		{"normalize int8", `vec_to_json(vec_normalize(vec_int8('[3,4]')))`, "[0.6,0.8]"},
		{"type of a normalized int8", `vec_type(vec_normalize(vec_int8('[3,4]')))`, "float32"},
		{"type of a normalized float16", `vec_type(vec_normalize(vec_f16('[3,4]')))`, "float16"},
		{"normalize float16", `vec_to_json(vec_normalize(vec_f16('[3,4]')))`, "[0.6,0.8]"},
		{"normalize bfloat16", `vec_to_json(vec_normalize(vec_bf16('[3e38,-4e-5]')))`, "[1,-0]"},
		{"quantize int8", `vec_to_json(vec_quantize_int8('[-1,-0.5,0,0.5,1,2,-2]', 'unit'))`, "[-128,-64,0,63,126,127,-128]"}, // 126: the step is a float32
		{"quantize large", `vec_to_json(vec_quantize_int8(vec_f64('[1.7e308,-1.7e308]'), 'UNIT'))`, "[127,-128]"},
		{"quantize int8 to bits", `vec_to_json(vec_quantize_binary(vec_int8('[1,-1,0]')))`, "[1,0,0]"},

		{"each", `(SELECT group_concat(rowid || ':' || value || ':' || typeof(value), ' ') FROM vec_each('[1,2.5]'))`, "0:1.0:real 1:2.5:real"},
		{"each of int8", `(SELECT group_concat(rowid || ':' || value || ':' || typeof(value), ' ') FROM vec_each(vec_int8('[1,-2,3]')))`, "0:1:integer 1:-2:integer 2:3:integer"},
		{"each of bits", `(SELECT sum(value) FROM vec_each(vec_bit(x'F0')))`, int64(4)},
		{"each of NULL", `(SELECT count(*) FROM vec_each(NULL))`, int64(0)},
		{"each by rowid, backwards", `(SELECT group_concat(value, ' ') FROM (SELECT value FROM vec_each('[1,2,3]') ORDER BY rowid DESC))`, "3.0 2.0 1.0"},
		{"each of a join", `(SELECT sum(v.value * w.value) FROM (SELECT '[1,2,3]' AS x), vec_each(x) v, vec_each('[4,5,6]') w WHERE v.rowid = w.rowid)`, 32.0},
		{"each gives its vector", `(SELECT DISTINCT vector FROM vec_each('[1,2,3]'))`, "[1,2,3]"},

		{"sum", `(SELECT vec_to_json(vec_sum(column1)) FROM (VALUES ('[1,2]'), (NULL), (vec_f16('[3,4]')), (vec_int8('[5,6]'))))`, "[9,12]"},
		{"avg", `(SELECT vec_to_json(vec_avg(column1)) FROM (VALUES ('[1,2]'), (NULL), (vec_f16('[4,8]'))))`, "[2.5,5]"},
		{"sum of nothing", `(SELECT vec_sum(NULL))`, nil},
		{"avg of no rows", `(SELECT vec_avg(1) WHERE 0)`, nil},
		{"type of a sum of rows", `(SELECT vec_type(vec_sum(column1)) FROM (VALUES ('[1,2]'), (vec_f64('[3,4]'))))`, "float64"},
		{"avg of bits", `(SELECT vec_to_json(vec_avg(column1)) FROM (VALUES (vec_bit('[1,0]')), (vec_bit('[1,1]'))))`, "[1,0.5]"},
		{"avg whose sum is too large", `(SELECT vec_to_json(vec_avg(column1)) FROM (VALUES (vec_f64('[1.7e308,1]')), (vec_f64('[1.7e308,2]'))))`, "[1.7e308,1.5]"},
		{"avg of large float32", `(SELECT vec_to_json(vec_avg(column1)) FROM (VALUES (vec_f32('[3e38]')), (vec_f32('[3e38]'))))`, "[3e38]"},
		{"large rows that cancel", `(SELECT vec_to_json(vec_sum(column1)) FROM (VALUES (vec_f64('[1.7e308,5e-324]')), (vec_f64('[-1.7e308,5e-324]')), (vec_f64('[2,0]'))))`, "[2,1e-323]"},
		{"sum of large and not quite large", `(SELECT vec_to_json(vec_sum(column1)) FROM (VALUES (vec_f64('[8.452712498170644e270]')), (vec_f64('[4.226356249085322e270]'))))`, "[1.2679068747255966e271]"},
		{"groups", `(SELECT group_concat(s, ' ') FROM (SELECT vec_to_json(vec_sum(column2)) s FROM (VALUES (1,'[1]'), (2,'[2]'), (1,'[3]')) GROUP BY column1))`, "[4] [2]"},

		{"type of float16", `vec_type(vec_f16('[1]'))`, "float16"},
		{"type of bfloat16", `vec_type(vec_bf16('[1]'))`, "bfloat16"},
		{"type of int8", `vec_type(vec_int8('[1]'))`, "int8"},
		{"type of bits", `vec_type(vec_bit('[1]'))`, "bit"},
		{"type of float8", `vec_type(x'000408df0000003e000080bf000004')`, "float8"},
		{"version", `vec_version() GLOB 'v[0-9]*.[0-9]*.[0-9]*'`, int64(1)},
		{"debug", `vec_debug() GLOB 'version: velosync v*kernels: *sqlite: 3.*compiler: *'`, int64(1)},

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
		{"null vec_add", `vec_add(NULL, 'nonsense')`, nil},
		{"null vec_slice", `vec_slice(NULL, 0, 1)`, nil},
		{"null start of vec_slice", `vec_slice('[1]', NULL, 1)`, nil},
		{"null vec_quantize_int8", `vec_quantize_int8(NULL, 'unit')`, nil},
		{"null vec_quantize_binary", `vec_quantize_binary(NULL)`, nil},
		{"null vec_int8", `vec_int8(NULL)`, nil},
		{"null L1", `vec_distance_L1(NULL, '[1]')`, nil},
		{"null hamming", `vec_distance_hamming(vec_bit('[1]'), NULL)`, nil},
	}
	for _, k := range allKernels() {
		undo := k.use()
		t.Cleanup(undo)
		for _, tt := range tests {
			t.Run(k.name()+"/"+tt.name, func(t *testing.T) {
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
			"vec_f32: argument 1 is a blob of 3 bytes with type byte 3 (bit), and the byte before it is 0; that is no number of unused bits that fits: write vectors with vec_bit or vec_quantize_binary"},
		{`vec_length(x'ff1003')`, nil, // 16 of 16 bits unused
			"vec_length: argument 1 is a blob of 3 bytes with type byte 3 (bit), and the byte before it is 16; that is no number of unused bits that fits: write vectors with vec_bit or vec_quantize_binary"},
		{`vec_length(x'ffff001603')`, nil, ""},
		{`vec_length(x'ffff0003')`, nil, ""}, // even: float32
		{`vec_length(x'ffff000703')`, nil,
			"vec_length: argument 1 is a blob of 5 bytes with type byte 3 (bit), and the byte before it is 7; that is no number of unused bits that fits: write vectors with vec_bit or vec_quantize_binary"},
		{`vec_length(x'ffff001803')`, nil, // 8 bits would take one byte
			"vec_length: argument 1 is a blob of 5 bytes with type byte 3 (bit), and the byte before it is 24; that is no number of unused bits that fits: write vectors with vec_bit or vec_quantize_binary"},
		{`vec_f32(x'ff0004')`, nil,
			"vec_f32: argument 1 is a blob of 3 bytes with type byte 4 (float8), and the byte before it is 0; it takes a multiple of 4 and 11 more, and 0 to 3 unused bytes"},
		{`vec_length(x'00010203ff0000000000803f00000000000404')`, nil,
			"vec_length: argument 1 is a blob of 19 bytes with type byte 4 (float8), and the byte before it is 4; it takes a multiple of 4 and 11 more, and 0 to 3 unused bytes"},
		{`vec_f32(x'000000000000c07f00000000000004')`, nil,
			"vec_f32: argument 1 has NaN as element [0], counting from 0; vectors hold finite numbers"},
		{`vec_length(x'05')`, nil, "vec_length: argument 1 has no elements before its type byte; a vector has at least one"},
		{`vec_length(x'10')`, nil, "vec_length: argument 1 has no elements before its type byte; a vector has at least one"},
		{`vec_length(x'11')`, nil,
			"vec_length: argument 1 ends with type byte 17 (int8), but the byte before it is not 0; an even number of int8 ends with 16: write vectors with vec_int8"},
		{`vec_length(x'010211')`, nil,
			"vec_length: argument 1 ends with type byte 17 (int8), but the byte before it is not 0; an even number of int8 ends with 16: write vectors with vec_int8"},
		{`vec_f32(x'007c05')`, nil, "vec_f32: argument 1 has infinity as element [0], counting from 0; vectors hold finite numbers"},
		{`vec_to_json(x'c0ff06')`, nil, "vec_to_json: argument 1 has NaN as element [0], counting from 0; vectors hold finite numbers"},
		{`vec_f32(x'00003f')`, nil,
			"vec_f32: argument 1 is a blob of 3 bytes with the unknown type byte 63; an odd length ends with 1 (float32), 2 (float64), 3 (bit), 4 (float8), 5 (float16), 6 (bfloat16), 16 or 17 (int8), an even one is float32"},
		{`vec_f16('[65504, 65520]')`, nil,
			"vec_f16: argument 1 has an element [1], counting from 0, beyond the range of a float16, 65504; keep it as float32 with vec_f32"},
		{`vec_f16('[65519]')`, nil, ""},
		{`vec_bf16('[3.4e38]')`, nil,
			"vec_bf16: argument 1 has an element [0], counting from 0, beyond the range of a bfloat16; keep it as float64 with vec_f64"},
		{`vec_int8('[1, 128]')`, nil,
			"vec_int8: argument 1 has an element [1], counting from 0, that is no whole number from -128 to 127; vec_quantize_int8 makes int8 of a unit vector"},
		{`vec_int8('[0.5]')`, nil,
			"vec_int8: argument 1 has an element [0], counting from 0, that is no whole number from -128 to 127; vec_quantize_int8 makes int8 of a unit vector"},
		{`vec_bit('[0, 1, 2]')`, nil,
			"vec_bit: argument 1 has an element [2], counting from 0, that is neither 0 nor 1; vec_quantize_binary makes bits of any vector"},
		{`vec_bit(x'f0f0f0')`, nil,
			"vec_bit: argument 1 is a blob of 3 bytes with the unknown type byte 240; an odd length ends with 1 (float32), 2 (float64), 3 (bit), 4 (float8), 5 (float16), 6 (bfloat16), 16 or 17 (int8), an even one is float32"},
		{`vec_bit(zeroblob(8194))`, nil, "vec_bit: argument 1 has 65552 dimensions; the most is 65536"},

		{`vec_distance_L2(vec_f32('[1,2]'), vec_int8('[1,2]'))`, nil,
			"vec_distance_L2: the first is float32, the second int8; floats go with floats, int8 with int8 and bits with bits: convert one of them"},
		{`dot_product(vec_bit('[1,0]'), vec_int8('[1,2]'))`, nil,
			"dot_product: the first is bit, the second int8; floats go with floats, int8 with int8 and bits with bits: convert one of them"},
		{`dot_product(vec_int8('[1]'), x'000000000000f03f')`, nil, // no float64 beside int8
			"dot_product: the first is int8, the second float32; floats go with floats, int8 with int8 and bits with bits: convert one of them"},
		{`cosine_similarity(vec_int8('[1,2]'), vec_int8('[1,2,3]'))`, nil,
			"cosine_similarity: the first has 2 dimensions, the second 3; compare vectors that one model made"},
		{`cosine_similarity(vec_int8('[1,2]'), '[1,0.5]')`, nil,
			"cosine_similarity: argument 2 has an element that is no whole number from -128 to 127, beside a vector of int8"},
		{`vec_distance_L1('[1,2]', vec_bit('[1,0]'))`, nil,
			"vec_distance_L1: argument 1 has an element that is neither 0 nor 1, beside a vector of bits"},
		{`vec_distance_hamming(vec_bit('[1,0]'), vec_f32('[1,0]'))`, nil,
			"vec_distance_hamming: argument 2 is float32; a Hamming distance is between bits, which vec_quantize_binary makes of any vector"},
		{`vec_distance_hamming(vec_int8('[1,0]'), '[1,0]')`, nil,
			"vec_distance_hamming: argument 1 is int8; a Hamming distance is between bits, which vec_quantize_binary makes of any vector"},
		{`vec_distance_hamming('[1,0]', '[1,3]')`, nil,
			"vec_distance_hamming: argument 2 has an element that is neither 0 nor 1, beside a vector of bits"},
		{`vec_distance_L1(vec_f64('[1.7e308]'), vec_f64('[-1.7e308]'))`, nil,
			"vec_distance_L1: the result is beyond the range of a float64; scale the vectors down"},
		{`vec_distance_L1(x'007e05', '[1]')`, nil,
			"vec_distance_L1: argument 1 has NaN as element [0], counting from 0; vectors hold finite numbers"},
		{`cosine_similarity('[1]', x'807f06')`, nil,
			"cosine_similarity: argument 2 has infinity as element [0], counting from 0; vectors hold finite numbers"},

		{`vec_add('[1,2]', '[1]')`, nil, "vec_add: the first has 2 dimensions, the second 1; compare vectors that one model made"},
		{`vec_add(vec_int8('[100,100]'), vec_int8('[27,28]'))`, nil,
			"vec_add: the result has an element [1], counting from 0, that int8 cannot hold; convert the vectors to a wider type"},
		{`vec_sub(vec_f32('[3e38]'), vec_f32('[-3e38]'))`, nil,
			"vec_sub: the result has an element [0], counting from 0, that float32 cannot hold; convert the vectors to a wider type"},
		{`vec_add(vec_f64('[1.7e308]'), vec_f64('[1.7e308]'))`, nil,
			"vec_add: the result has an element [0], counting from 0, that float64 cannot hold; convert the vectors to a wider type"},
		{`vec_add(vec_f16('[60000]'), vec_f16('[60000]'))`, nil,
			"vec_add: the result has an element [0], counting from 0, that float16 cannot hold; convert the vectors to a wider type"},
		{`vec_add(vec_bit('[1]'), vec_bit('[1]'))`, nil, "vec_add: bits have no sum; convert them with vec_int8 or vec_f32"},
		{`vec_sub(vec_f32('[1]'), vec_bit('[1]'))`, nil,
			"vec_sub: the first is float32, the second bit; floats go with floats, int8 with int8 and bits with bits: convert one of them"},
		{`vec_add(?, '[1,2]')`, []any{raw32(1, nan)},
			"vec_add: argument 1 has NaN as element [1], counting from 0; vectors hold finite numbers"},

		{`vec_slice('[1,2,3]', 0, 4)`, nil, "vec_slice: from 0 up to 4 is no slice of 3 elements; it takes 0 <= start < end <= 3"},
		{`vec_slice('[1,2,3]', -1, 2)`, nil, "vec_slice: from -1 up to 2 is no slice of 3 elements; it takes 0 <= start < end <= 3"},
		{`vec_slice('[1,2,3]', 2, 2)`, nil, "vec_slice: from 2 up to 2 is no slice of 3 elements; it takes 0 <= start < end <= 3"},
		{`vec_slice('[1,2,3]', 0, 9223372036854775807)`, nil,
			"vec_slice: from 0 up to 9223372036854775807 is no slice of 3 elements; it takes 0 <= start < end <= 3"},
		{`vec_slice('[1,2,3]', '0', 2)`, nil, "vec_slice: argument 2 is no whole number; a slice is vec_slice(vector, start, end)"},
		{`vec_slice('[1,2,3]', 0, 1.5)`, nil, "vec_slice: argument 3 is no whole number; a slice is vec_slice(vector, start, end)"},

		{`vec_quantize_int8('[1]', 'whole')`, nil, "vec_quantize_int8: argument 2 is not 'unit', the one range there is: -1 to 1"},
		{`vec_quantize_int8('[1]', NULL)`, nil, "vec_quantize_int8: argument 2 is not 'unit', the one range there is: -1 to 1"},
		{`vec_quantize_binary(?)`, []any{raw32(nan)},
			"vec_quantize_binary: argument 1 has NaN as element [0], counting from 0; vectors hold finite numbers"},

		{`vec_f32('[1.2.3]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: '.' at character 5, where ',' or ']' should be"},
		{`vec_f32('[Infinity]')`, nil, "vec_f32: argument 1 is not a JSON array of numbers: 'I' at character 2, where a number should be"},
		{`vec_f32('[1e400]')`, nil, "vec_f32: argument 1 has a number at character 2 that is beyond the range of a float64"},
		{`vec_int8('[1]]')`, nil, "vec_int8: argument 1 is not a JSON array of numbers: ']' at character 4, where the end should be"},
		{`(SELECT count(*) FROM vec_each('[1'))`, nil, "vec_each: argument 1 is not a JSON array of numbers: the text ends after character 2, where ',' or ']' should follow"},
		{`(SELECT count(*) FROM vec_each(7))`, nil, "vec_each: argument 1 is a number; a vector is a blob, or a JSON array as text"},
		{`(SELECT count(*) FROM vec_each)`, nil, "vec_each: takes a vector, as in vec_each('[1, 2]')"},
		{`(SELECT count(*) FROM vec_each(x'007e05'))`, nil, "vec_each: argument 1 has NaN as element [0], counting from 0; vectors hold finite numbers"},
		{`(SELECT vec_sum(column1) FROM (VALUES ('[1,2]'), ('[1,2,3]')))`, nil,
			"vec_sum: argument 1 has 3 dimensions, those before it 2; add up vectors that one model made"},
		{`(SELECT vec_avg(column1) FROM (VALUES ('[1,2]'), (7)))`, nil,
			"vec_avg: argument 1 is a number; a vector is a blob, or a JSON array as text"},
		{`(SELECT vec_sum(column1) FROM (VALUES (vec_f32('[3e38]')), (vec_f32('[3e38]'))))`, nil,
			"vec_sum: the result has an element [0], counting from 0, that float32 cannot hold"},
		{`(SELECT vec_sum(column1) FROM (VALUES (vec_f64('[1.7e308]')), (vec_f64('[1.7e308]'))))`, nil,
			"vec_sum: the result has an element [0], counting from 0, that float64 cannot hold"},
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
		{"float16 parameter", `dot_product(e, ?)`, []any{VectorF16{2, 3}}},
		{"bfloat16 parameter first", `dot_product(?, e)`, []any{VectorBF16{2, 3}}},
		{"float16 column and parameter", `dot_product(vec_f16(e), ?)`, []any{VectorF16{2, 3}}},
		{"bfloat16 column, float32 parameter", `dot_product(?, vec_bf16(e))`, []any{Vector{2, 3}}},
		{"float8 parameter", `dot_product(e, ?)`, []any{[]byte{2, 3, 0, 0, 0, 0, 128, 63, 0, 0, 0, 0, 0, 2, 4}}},
		{"int8 column and parameter", `dot_product(vec_int8(j), ?)`, []any{VectorInt8{2, 3}}},
		{"int8 column and text parameter", `dot_product(vec_int8(j), ?)`, []any{"[2, 3]"}},
		{"text parameter beside several types", `dot_product(CASE id % 4 WHEN 0 THEN e WHEN 1 THEN vec_int8(j) WHEN 2 THEN vec_f16(j) ELSE j END, ?)`, []any{"[2, 3]"}},
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
		for _, tt := range []struct {
			query string
			arg   any
		}{
			{`cosine_similarity(e, ?)`, Vector{2, 3}}, {`cosine_similarity(?, e)`, Vector{2, 3}},
			{`cosine_similarity(vec_f16(e), ?)`, VectorF16{2, 3}}, {`cosine_similarity(?, vec_bf16(e))`, VectorBF16{2, 3}},
			{`cosine_similarity(vec_f16(e), ?)`, Vector{2, 3}}, {`cosine_similarity(?, e)`, VectorBF16{2, 3}},
			{`cosine_similarity(vec_int8(j), ?)`, VectorInt8{2, 3}}, {`cosine_similarity(?, vec_int8(j))`, VectorInt8{2, 3}},
			{`cosine_similarity(CASE id % 4 WHEN 0 THEN e WHEN 1 THEN vec_int8(j) WHEN 2 THEN vec_f16(j) ELSE vec_f64(j) END, ?)`, "[2, 3]"},
		} {
			query := tt.query
			rows, err := db.Query(`SELECT id, `+query+` FROM v`, tt.arg)
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
	mustExec(t, db, `CREATE VIEW parts AS SELECT id, sum(value) AS s, vec_sum(e) AS v FROM d, vec_each(d.e) GROUP BY id`)
	if _, err := eval(t, db, `s FROM parts`); err != nil {
		t.Error(err)
	}
	var c float64
	if err := db.QueryRow(`SELECT c FROM near`).Scan(&c); err != nil || c != 1 {
		t.Errorf("view gave %v, %v; want 1", c, err)
	}
	if _, err := db.Exec(`INSERT INTO d VALUES (2, vec_f32('[1,0,0]'))`); err == nil {
		t.Error("the CHECK let a vector of 3 dimensions pass")
	}
}

// int8 and bits come out exactly as Go computes them, with every instruction set, and with a
// query whose norm is kept.
func TestFunctions_Exact(t *testing.T) {
	db := openDB(t, ":memory:")
	r := newRand(t)
	mustExec(t, db, `CREATE TABLE v(e BLOB, b BLOB)`)
	for _, n := range []int{1, 7, 8, 64, 65, 333, 1024} {
		mustExec(t, db, `DELETE FROM v`)
		query, bits := make(VectorInt8, n), make(VectorBit, n)
		random := func(v VectorInt8, b VectorBit) {
			for i := range v {
				v[i], b[i] = int8(r.UintN(256)), r.IntN(2) == 1
			}
		}
		random(query, bits)
		type row struct {
			v VectorInt8
			b VectorBit
		}
		var rows []row
		for range 10 {
			x := row{make(VectorInt8, n), make(VectorBit, n)}
			random(x.v, x.b)
			rows = append(rows, x)
			mustExec(t, db, `INSERT INTO v VALUES (?, ?)`, x.v, x.b)
		}
		for _, k := range allKernels() {
			undo := k.use()
			found, err := db.Query(`SELECT cosine_similarity(e, ?1), dot_product(?1, e), vec_distance_L2(e, ?1), vec_distance_L1(e, ?1),
				cosine_similarity(b, ?2), dot_product(b, ?2), vec_distance_L2(?2, b), vec_distance_L1(b, ?2), vec_distance_hamming(b, ?2) FROM v ORDER BY rowid`, query, bits)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; found.Next(); i++ {
				var dot, aa, bb, l2, l1, both, ones, twos, differ float64
				for j := range n {
					x, y := float64(rows[i].v[j]), float64(query[j])
					dot, aa, bb, l2, l1 = dot+x*y, aa+x*x, bb+y*y, l2+(x-y)*(x-y), l1+math.Abs(x-y)
					p, q := rows[i].b[j], bits[j]
					if p {
						ones++
					}
					if q {
						twos++
					}
					if p && q {
						both++
					}
					if p != q {
						differ++
					}
				}
				cosine := func(dot, aa, bb float64) float64 {
					if aa == 0 || bb == 0 {
						return 0
					}
					return dot / math.Sqrt(aa*bb)
				}
				want := []float64{cosine(dot, aa, bb), dot, math.Sqrt(l2), l1, cosine(both, ones, twos), both, math.Sqrt(differ), differ, differ}
				got, into := make([]float64, len(want)), []any{}
				for i := range got {
					into = append(into, &got[i])
				}
				if err := found.Scan(into...); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s n=%d row %d: got %v, want %v", k.name(), n, i, got, want)
				}
			}
			if err := found.Close(); err != nil {
				t.Fatal(err)
			}
			undo()
		}
	}
}

// Sums over many rows stay within the bound, whatever the order and size of their elements.
func TestFunctions_Aggregates(t *testing.T) {
	db := openDB(t, ":memory:")
	r := newRand(t)
	mustExec(t, db, `CREATE TABLE v(e BLOB)`)
	const rows, n = 300, 5
	sums, abs := make([]*big.Float, n), make([]float64, n)
	for i := range sums {
		sums[i] = new(big.Float).SetPrec(2400)
	}
	for range rows {
		v := make(Vector64, n)
		for i := range v {
			v[i] = math.Ldexp(r.NormFloat64(), r.IntN(1900)-1000)
			sums[i].Add(sums[i], big.NewFloat(v[i]))
			abs[i] += math.Abs(v[i])
		}
		mustExec(t, db, `INSERT INTO v VALUES (?)`, v)
	}
	var sum, avg Vector64
	if err := db.QueryRow(`SELECT vec_sum(e), vec_avg(e) FROM v`).Scan(&sum, &avg); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		want, _ := sums[i].Float64()
		if math.Abs(sum[i]-want) > rows*0x1p-53*abs[i] || math.Abs(avg[i]-want/rows) > 0x1p-53*abs[i] {
			t.Errorf("element %d: sum %v, average %v, want a sum of %v", i, sum[i], avg[i], want)
		}
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
