package place

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/oschwald/maxminddb-golang/v2"
)

// maxDatabase bounds the database, which is held in memory: MaxMind's largest with countries has about 70 MiB.
const maxDatabase = 256 << 20

// countries is a database in memory. It is not mapped: a file that somebody shortens in place would end the process.
type countries struct{ reader *maxminddb.Reader }

// readCountries reads all of the database and looks at every record of it, so that what is broken is noticed now.
func readCountries(file string) (*countries, error) {
	text, err := readBounded(file)
	if err != nil {
		return nil, err
	}
	reader, err := maxminddb.OpenBytes(text, maxminddb.DisableStringCache())
	if err != nil {
		return nil, fmt.Errorf("not a database in MaxMind's format: %w", err)
	}
	if err := reader.Verify(); err != nil {
		return nil, fmt.Errorf("the database is damaged: %w", err)
	}
	c := &countries{reader}
	if !c.namesAny() {
		return nil, fmt.Errorf("a database of type %q names no country", reader.Metadata.DatabaseType)
	}
	return c, nil
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("not a regular file"))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxDatabase+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxDatabase:
		return nil, fmt.Errorf("larger than %d MiB", maxDatabase>>20)
	}
	return text, nil
}

// namesAny tells a database of countries from one of something else.
func (c *countries) namesAny() bool {
	for result := range c.reader.Networks() {
		if codeOf(result) != "" {
			return true
		}
	}
	return false
}

func (c *countries) of(address netip.Addr) string { return codeOf(c.reader.Lookup(address)) }

// codeOf is a record's country: where the address is used, not where it was registered. Doubt is no country.
func codeOf(result maxminddb.Result) string {
	var code string
	if err := result.DecodePath(&code, "country", "iso_code"); err != nil || len(code) != 2 {
		return ""
	}
	for _, c := range []byte(code) {
		if c < 'A' || c > 'Z' {
			return ""
		}
	}
	return code
}
