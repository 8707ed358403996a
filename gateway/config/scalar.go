package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// scalar decodes one scalar. A value that came through a reference may be a secret: errors do not repeat it.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string, r rules) {
	if n.Kind != yaml.ScalarNode {
		d.report(n, path, "expected "+expectation(v.Type()))
		return
	}
	text, referred, err := d.text(n)
	if err != nil {
		d.report(n, path, err.Error())
		return
	}
	if bare := r.number && n.Tag == "!!int"; !referred && !bare && !slices.Contains(tagsFor(v.Type()), n.Tag) {
		d.report(n, path, mismatch(n, v.Type()))
		return
	}
	if err := setText(v, text); err != nil {
		if referred {
			err = fmt.Errorf("the value of %s is not %s", n.Value, expectation(v.Type()))
		}
		d.report(n, path, err.Error())
		return
	}
	d.limit(n, v, path, r)
	d.locate(v, r)
}

// text returns what a scalar says once its references are resolved. Only texts have any.
func (d *decoder) text(n *yaml.Node) (text string, referred bool, err error) {
	if n.Tag != "!!str" {
		return n.Value, false, nil
	}
	return d.refs.resolve(n.Value)
}

// limit holds a text against the only ones allowed.
func (d *decoder) limit(n *yaml.Node, v reflect.Value, path string, r rules) {
	if r.enum == nil || v.Kind() != reflect.String || slices.Contains(r.enum, v.String()) {
		return
	}
	d.report(n, path, "unknown value; "+suggestion(v.String(), r.enum))
}

// locate makes a file path absolute.
func (d *decoder) locate(v reflect.Value, r rules) {
	if r.remote && (strings.HasPrefix(v.String(), "https://") || strings.HasPrefix(v.String(), "http://")) {
		return
	}
	if r.path && v.Kind() == reflect.String {
		v.SetString(absolute(d.refs.folder, v.String()))
	}
}

// tagsFor lists the YAML types that a Go type is written as. Durations, sizes and addresses are texts; a size may also
// be a bare number.
func tagsFor(t reflect.Type) []string {
	switch {
	case isText(t) && numeric(t):
		return []string{"!!str", "!!int"}
	case isText(t):
		return []string{"!!str"}
	case t.Kind() == reflect.Bool:
		return []string{"!!bool"}
	case t.Kind() == reflect.Float64:
		return []string{"!!float", "!!int"}
	}
	return []string{"!!int"}
}

// numeric tells the text types, sizes for example, that are numbers underneath and sensible without their unit.
func numeric(t reflect.Type) bool {
	zero := reflect.Zero(t)
	return t != reflect.TypeFor[time.Duration]() && (zero.CanInt() || zero.CanUint())
}

// isText tells the types that are written as a text.
func isText(t reflect.Type) bool {
	return t.Kind() == reflect.String || t == reflect.TypeFor[time.Duration]() ||
		reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// mismatch explains a scalar of the wrong YAML type.
func mismatch(n *yaml.Node, t reflect.Type) string {
	switch {
	case n.Tag == "!!null":
		return "the value is missing: expected " + expectation(t)
	case t.Kind() == reflect.String:
		return fmt.Sprintf("expected a text: write it in quotes, %q", n.Value)
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		return "expected " + expectation(t) + ", without quotes"
	}
	return "expected " + expectation(t)
}

// expectation describes what a type is written as.
func expectation(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "a duration with a unit, such as 30s, 8h or 7d"
	case reflect.TypeFor[netip.Addr]():
		return "an IP address, such as 10.0.0.1 or 2001:db8::1"
	case reflect.TypeFor[netip.AddrPort]():
		return "an IP address and port, such as 10.0.0.1:443"
	case reflect.TypeFor[netip.Prefix]():
		return "a network, such as 10.0.0.0/8 or 2001:db8::/32"
	}
	if described, ok := reflect.New(t).Interface().(interface{ Expectation() string }); ok {
		return described.Expectation()
	}
	switch {
	case isText(t):
		return "a text"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float64:
		return "a number"
	case reflect.Zero(t).CanUint():
		return "a whole number from 0 up"
	}
	return "a whole number"
}

// setText sets a scalar from its text.
func setText(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return setUnmarshaler(u, v.Type(), text)
	}
	wrong := fmt.Errorf("expected %s, not %q", expectation(v.Type()), text)
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		length, ok := parseDuration(text)
		if !ok {
			return wrong
		}
		v.SetInt(int64(length))
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			return wrong
		}
		v.SetBool(text == "true")
	case v.Kind() == reflect.Float64:
		number, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(number) || math.IsInf(number, 0) {
			return wrong
		}
		v.SetFloat(number)
	default:
		return setWhole(v, text, wrong)
	}
	return nil
}

func setUnmarshaler(u encoding.TextUnmarshaler, t reflect.Type, text string) error {
	err := u.UnmarshalText([]byte(text))
	if err == nil {
		return nil
	}
	if about := expectation(t); about != "a text" {
		return fmt.Errorf("expected %s: %w", about, err)
	}
	return err
}

var wholeNumber = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

// setWhole sets an integer. Decimal only and without leading zeros, which YAML 1.1 takes for octal.
func setWhole(v reflect.Value, text string, wrong error) error {
	if !wholeNumber.MatchString(text) {
		return wrong
	}
	if v.CanUint() {
		number, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return rangeError(err, wrong)
		}
		v.SetUint(number)
		return nil
	}
	number, err := strconv.ParseInt(text, 10, v.Type().Bits())
	if err != nil {
		return rangeError(err, wrong)
	}
	v.SetInt(number)
	return nil
}

func rangeError(err, wrong error) error {
	if errors.Is(err, strconv.ErrRange) {
		return errors.New("the number is too large")
	}
	return wrong
}

// durationPattern is what a duration looks like, here and in the schema: numbers with units, largest first or not,
// days at the front. Never negative, never without a unit.
const durationPattern = `^(0|([0-9]{1,5}d)?([0-9]+(\.[0-9]+)?(h|m|s|ms|us|µs|ns))*)$`

var durationText = regexp.MustCompile(durationPattern)

// parseDuration adds days to time.ParseDuration: a configured day has 24 hours.
func parseDuration(text string) (time.Duration, bool) {
	if text == "" || !durationText.MatchString(text) {
		return 0, false
	}
	var days time.Duration
	if before, after, found := strings.Cut(text, "d"); found {
		count, err := strconv.Atoi(before)
		if err != nil {
			return 0, false
		}
		days, text = time.Duration(count)*24*time.Hour, after
	}
	if text == "" {
		return days, true
	}
	rest, err := time.ParseDuration(text)
	if err != nil || rest < 0 || rest > math.MaxInt64-days {
		return 0, false
	}
	return days + rest, true
}

// formatDuration writes a duration the short way: 8h, not 8h0m0s, and from two days on whole days: 365d, not 8760h.
func formatDuration(length time.Duration) string {
	const day = 24 * time.Hour
	if length >= 2*day && length%day == 0 {
		return strconv.Itoa(int(length/day)) + "d"
	}
	text := length.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
