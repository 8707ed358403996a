package sink

import (
	"fmt"

	"sallyport/audit/export"
)

// newEncoder writes records as the sink's receiver wants them: lines, or whole syslog messages with their length.
func newEncoder(c Config, o Options) (export.Encoder, error) {
	format, options := c.Format, export.Options{Disclose: c.Disclose, Key: o.Key, Version: o.Version}
	if c.Type == Syslog {
		format, options.Message, options.OctetCounting = export.Syslog, c.Format, true
	}
	encoder, err := export.NewEncoder(format, options)
	if err != nil {
		return nil, fmt.Errorf("format: %w", err)
	}
	return encoder, nil
}
