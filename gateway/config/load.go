package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds the configuration file: some ten thousand apps.
const maxFile = 8 << 20

// Env looks up an environment variable; os.LookupEnv is one.
type Env func(name string) (value string, ok bool)

// Sources tells what a configuration was read from, so that it can be watched and named. Load returns it for a broken
// configuration too: the repair is worth noticing.
type Sources struct {
	Files  []string // absolute: the configuration file first, then those its ${file:…} references name
	Digest string   // "sha256:" and the hash of the configuration file alone, so that no secret can be guessed from it
}

// Load reads the YAML file at path into a new T: the one walk that every configuration of this program goes through.
// T is a struct; fieldsOf says which tags its fields carry. Types that implement encoding.TextUnmarshaler are read from
// text, and a value with a method Check() error is asked once it and all below it are complete.
//
// The error is an Errors with everything that is wrong, or tells why the file cannot be read. The result is meant to be
// left unchanged from here on.
func Load[T any](path string, lookup Env) (*T, Sources, error) {
	value, sources, err := read[T](path, lookup)
	if err != nil {
		return nil, sources, err
	}
	return value, sources, nil
}

// read returns what there is of a value beside an Errors.
func read[T any](path string, lookup Env) (*T, Sources, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, Sources{}, fmt.Errorf("reading configuration: %w", err)
	}
	data, err := readRegular(full, maxFile)
	if err != nil {
		return nil, Sources{Files: []string{full}}, fmt.Errorf("reading configuration: %w", err)
	}
	refs := &references{folder: filepath.Dir(full), env: lookup, files: []string{full}}
	value, err := parse[T](path, data, refs)
	sum := sha256.Sum256(data)
	return value, Sources{Files: refs.files, Digest: "sha256:" + hex.EncodeToString(sum[:])}, err
}

// parse decodes the content of the file called name. With problems in it, the value is as complete as it can be; there
// is none when the file is not YAML.
func parse[T any](name string, data []byte, refs *references) (*T, error) {
	documents, err := documents(data)
	if err != nil {
		return nil, Errors{syntaxProblem(name, data, err)}
	}
	d := &decoder{file: name, refs: refs, nodes: map[string]*yaml.Node{}}
	value := new(T)
	d.document(documents, reflect.ValueOf(value).Elem())
	return value, d.problems.sorted()
}
