package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"testing"
)

// tarOf is a tar archive with these files, in order of their names.
func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var headers []*tar.Header
	for _, name := range sortedNames(files) {
		headers = append(headers, &tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(files[name]))})
	}
	return tarWith(t, files, headers...)
}

func tarWith(t *testing.T, files map[string]string, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[h.Name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipOf(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
