// Package filter is the one language in which records are chosen.
package filter

import (
	_ "cel.dev/cel-go/cel"
)
