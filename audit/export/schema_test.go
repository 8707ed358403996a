package export

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

//go:embed testdata/ocsf-1.8.0.txt
var ocsfFacts string

// schema is what OCSF says of the classes and objects that we use.
type schema struct {
	classes map[int64]*shape
	objects map[string]*shape
}

// shape is a class or an object.
type shape struct {
	name           string
	uid, category  int64 // of a class
	atLeast, justs []string
	attributes     map[string]attribute
}

type attribute struct {
	requirement, kind, profile string
	array                      bool
	enum                       []string
}

func parseSchema(text string) (*schema, error) {
	s := &schema{map[int64]*shape{}, map[string]*shape{}}
	var now *shape
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#" || strings.HasPrefix(line, "#"):
			continue
		case words[0] == "class" && !strings.HasPrefix(line, " "):
			now = &shape{name: words[1], attributes: map[string]attribute{}}
			now.uid, _ = strconv.ParseInt(words[2], 10, 64)
			now.category, _ = strconv.ParseInt(words[3], 10, 64)
			s.classes[now.uid] = now
			words = words[4:]
		case words[0] == "object" && !strings.HasPrefix(line, " "):
			now = &shape{name: words[1], attributes: map[string]attribute{}}
			s.objects[now.name] = now
			words = words[2:]
		default:
			if len(words) < 3 {
				return nil, fmt.Errorf("%q is no attribute", line)
			}
			now.attributes[words[0]] = parseAttribute(words[1:])
			continue
		}
		for _, word := range words {
			name, list, _ := strings.Cut(word, "=")
			switch name {
			case "at_least_one":
				now.atLeast = strings.Split(list, ",")
			case "just_one":
				now.justs = strings.Split(list, ",")
			default:
				return nil, fmt.Errorf("%q is no constraint", word)
			}
		}
	}
	return s, nil
}

func parseAttribute(words []string) attribute {
	a := attribute{requirement: words[0]}
	a.kind, a.array = strings.CutPrefix(words[1], "[]")
	for _, word := range words[2:] {
		switch name, value, _ := strings.Cut(word, "="); name {
		case "profile":
			a.profile = value
		case "enum":
			a.enum = strings.Split(value, ",")
		}
	}
	return a
}

// validate reports everything that is wrong with one event, as the OCSF server's validator does.
func (s *schema) validate(line []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	var event map[string]any
	if err := decoder.Decode(&event); err != nil {
		return err
	}
	class := s.classes[integer(event["class_uid"])]
	if class == nil {
		return fmt.Errorf("class_uid %v is no class", event["class_uid"])
	}
	c := &check{schema: s, profiles: map[string]bool{}}
	metadata, _ := event["metadata"].(map[string]any)
	listed, _ := metadata["profiles"].([]any)
	for _, p := range listed {
		c.profiles[fmt.Sprint(p)] = true
	}
	c.object(class, "", event)
	if got := integer(event["category_uid"]); got != class.category {
		c.wrong("category_uid", "is %d, want %d", got, class.category)
	}
	if got, want := integer(event["type_uid"]), class.uid*100+integer(event["activity_id"]); got != want {
		c.wrong("type_uid", "is %d, want %d", got, want)
	}
	if metadata["version"] != ocsfVersion {
		c.wrong("metadata.version", "is %v", metadata["version"])
	}
	if at := integer(event["time"]); at < 1e12 || at > 1e14 {
		c.wrong("time", "%d is not in milliseconds of our age", at)
	}
	c.names(event)
	return errors.Join(c.errs...)
}

type check struct {
	schema   *schema
	profiles map[string]bool
	errs     []error
}

func (c *check) wrong(path, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
}

// names wants the word for what has the number 99, which says only that it is something else.
func (c *check) names(event map[string]any) {
	for id, name := range map[string]string{"activity_id": "activity_name"} {
		if integer(event[id]) == 99 && event[name] == nil {
			c.wrong(name, "%s is 99 and nothing says what that is", id)
		}
	}
}

func (c *check) object(s *shape, path string, value map[string]any) {
	for name, attr := range s.attributes {
		if attr.requirement == "required" && value[name] == nil && (attr.profile == "" || c.profiles[attr.profile]) {
			c.wrong(path+name, "required, and not there")
		}
	}
	has := func(name string) bool { return value[name] != nil }
	if len(s.atLeast) > 0 && !slices.ContainsFunc(s.atLeast, has) {
		c.wrong(path+s.name, "none of %v is there", s.atLeast)
	}
	if n := len(s.justs) - len(slices.DeleteFunc(slices.Clone(s.justs), has)); len(s.justs) > 0 && n != 1 {
		c.wrong(path+s.name, "%d of %v are there, want one", n, s.justs)
	}
	for name, v := range value {
		attr, known := s.attributes[name]
		switch {
		case !known:
			c.wrong(path+name, "not an attribute of %s", s.name)
		case attr.profile != "" && !c.profiles[attr.profile]:
			c.wrong(path+name, "belongs to the profile %s, which the event does not name", attr.profile)
		case attr.array:
			c.array(attr, path+name, v)
		default:
			c.value(attr, path+name, v)
		}
	}
}

func (c *check) array(attr attribute, path string, v any) {
	list, ok := v.([]any)
	if !ok {
		c.wrong(path, "is a %T, want an array", v)
	}
	if ok && len(list) == 0 {
		c.wrong(path, "is empty")
	}
	for _, one := range list {
		c.value(attr, path, one)
	}
}

func (c *check) value(attr attribute, path string, v any) {
	if name, ok := strings.CutPrefix(attr.kind, "@"); ok {
		c.nested(name, path, v)
		return
	}
	if err := typed(attr.kind, v); err != nil {
		c.wrong(path, "%v", err)
		return
	}
	if attr.enum != nil && !slices.Contains(attr.enum, fmt.Sprint(v)) {
		c.wrong(path, "%v is not one of %v", v, attr.enum)
	}
}

func (c *check) nested(name, path string, v any) {
	object, ok := v.(map[string]any)
	switch shape := c.schema.objects[name]; {
	case !ok:
		c.wrong(path, "is a %T, want an object", v)
	case name == "object": // unmapped: anything
	case shape == nil:
		c.wrong(path, "the object %s is not in the table", name)
	default:
		c.object(shape, path+".", object)
	}
}

var (
	hostnameForm = regexp.MustCompile(`^(([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])\.)*([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])$`)
	emailForm    = regexp.MustCompile(`^[!-?A-~]+@[a-zA-Z0-9.-]+$`)
)

// typed checks a value against OCSF's type of that name.
func typed(kind string, v any) error {
	text, isText := v.(string)
	switch kind {
	case "integer_t", "long_t", "timestamp_t", "port_t":
		n, ok := v.(json.Number)
		i, err := n.Int64()
		if !ok || err != nil || kind == "port_t" && (i < 0 || i > 65535) {
			return fmt.Errorf("%v is no %s", v, kind)
		}
		return nil
	case "boolean_t":
		if _, ok := v.(bool); !ok {
			return fmt.Errorf("%v is no %s", v, kind)
		}
		return nil
	case "float_t":
		if _, ok := v.(json.Number); !ok {
			return fmt.Errorf("%v is no %s", v, kind)
		}
		return nil
	case "json_t":
		return nil
	}
	if !isText || text == "" {
		return fmt.Errorf("%v (%T) is no %s", v, v, kind)
	}
	form := true
	switch kind {
	case "ip_t":
		_, err := netip.ParseAddr(text)
		form = err == nil
	case "hostname_t":
		form = hostnameForm.MatchString(text)
	case "email_t":
		form = emailForm.MatchString(text)
	}
	if !form {
		return fmt.Errorf("%q is no %s", text, kind)
	}
	return nil
}

func integer(v any) int64 {
	n, _ := v.(json.Number)
	i, err := n.Int64()
	if err != nil {
		return -1
	}
	return i
}
