meta:
  id: mvm
  title: MVM learned medical image, container versions 2 and 3
  file-extension: mvm
  license: MIT
  endian: le
doc: |
  The container of mvm-3.md and mvm-2.md. What a DATA chunk holds is described in ans.md; symbols need
  a model's tables and are out of reach of this description, as are the map and the blends of flat.md
  and the planes of plane.md, which are streams of answers. Not checked here: checksums (crc is CRC-32
  of type and payload), the order of chunks and how often each may stand, whether the lengths in SEEK
  are right, that the fields of HEAD fit together (bits, signed and alpha with photometric and one
  another, lo and hi with bits and signed, what an indexed image must not have, that tile cuts the
  image), that nothing follows its last field, that width and height are not 2^31, the characters of
  chunk types, that the strings of teXT are even in number, how many durations anIM has, and the first
  and last words of the lanes of DATA.
seq:
  - id: magic
    contents: [0x89, 0x4d, 0x56, 0x4d, 0x0d, 0x0a, 0x1a, 0x0a]
  - id: header
    type: header_chunk
  - id: chunks
    type: chunk
    repeat: until
    repeat-until: _io.size - _io.pos < 12
    doc: |
      PLTE of an indexed image, SEEK of more than one tile, metadata, then the tiles: ALPH, FLAT, OUTL
      where they are, and DATA or INDX. In version 2 metadata and at most one FLAT in any order, and
      one DATA
  - id: pad
    size-eos: true
    valid:
      expr: _.length == 0 or (_.length == 1 and _[0] == 0 and header.body.version == 3)
    doc: nothing, or a byte of 0
types:
  header_chunk:
    seq:
      - id: length
        type: u4
        valid:
          min: 6
          max: 39
      - id: type
        contents: HEAD
      - id: body
        type: head
        size: length
      - id: crc
        type: u4
  head:
    seq:
      - id: version
        type: u1
        valid:
          any-of: [2, 3]
      - id: rate
        type: u1
        valid:
          expr: version == 3 or _ <= 63
      - id: kind
        type: u1
      - id: generation
        type: u1
        valid:
          expr: version == 3 or _ >= 1
        doc: 0 if the image is indexed
      - id: fingerprint
        size: 8
        if: generation > 0
      - id: width_less_1
        type: varint
      - id: height_less_1
        type: varint
      - id: form
        type: u1
        if: formed == 1
        valid:
          min: 1
          max: 7
      - id: frames_less_2
        type: varint
        if: framed == 1
      - id: tile_units_less_1
        type: varint
        if: tiled == 1
      - id: given_lo
        type: s4
        if: ranged == 1
      - id: given_hi
        type: s4
        if: ranged == 1
        valid:
          min: given_lo
    instances:
      rate_index:
        value: 'version == 2 ? rate : rate & 63'
      alpha:
        value: 'version == 2 ? 0 : (rate >> 6) & 1'
      formed:
        value: 'version == 2 ? 0 : rate >> 7'
      framed:
        value: '(formed == 1 ? form : 0) & 1'
      tiled:
        value: '((formed == 1 ? form : 0) >> 1) & 1'
      palette:
        value: '((formed == 1 ? form : 0) >> 2) & 1'
      photometric:
        value: kind & 3
        enum: photometric
      signed:
        value: (kind >> 2) & 1
      ranged:
        value: (kind >> 3) & 1
      bits:
        value: (kind >> 4) + 1
      width:
        value: width_less_1.value + 1
      height:
        value: height_less_1.value + 1
      frames:
        value: 'framed == 1 ? frames_less_2.value + 2 : 1'
      tile:
        value: 'tiled == 1 ? 64 * (tile_units_less_1.value + 1) : 0'
        doc: side of tiles in pixels; 0 if the image is not cut
      rows:
        value: 'tiled == 1 ? (height_less_1.value / tile) + 1 : 1'
      columns:
        value: 'tiled == 1 ? (width_less_1.value / tile) + 1 : 1'
      count:
        value: frames * rows * columns
        doc: of tiles
      least:
        value: 'signed == 1 ? -(1 << (bits - 1)) : 0'
      most:
        value: (1 << (bits - signed)) - 1
      lo:
        value: 'ranged == 1 ? given_lo : least'
      hi:
        value: 'ranged == 1 ? given_hi : most'
      coded_channels:
        value: 'photometric == photometric::rgb ? 3 : 1'
        doc: of a colour without transparency; one where photometric is rgb_of_equal_channels
    enums:
      photometric:
        0: min_is_black
        1: min_is_white
        2: rgb
        3: rgb_of_equal_channels
  varint:
    doc: an unsigned integer in 1 to 5 bytes, 7 bits in each, the least first
    seq:
      - id: groups
        type: u1
        repeat: until
        repeat-until: _ < 0x80
        valid:
          min: '_index == 0 ? 0 : 1'
          max: '_index == 4 ? 7 : 255'
        doc: the last is not 0, unless it is the only one; the fifth holds three bits
    instances:
      value:
        value: >-
          (groups[0] & 0x7f)
          + (groups.size > 1 ? (groups[1] & 0x7f) << 7 : 0)
          + (groups.size > 2 ? (groups[2] & 0x7f) << 14 : 0)
          + (groups.size > 3 ? (groups[3] & 0x7f) << 21 : 0)
          + (groups.size > 4 ? (groups[4] & 0x7f) << 28 : 0)
  chunk:
    seq:
      - id: length
        type: u4
      - id: type
        type: str
        size: 4
        encoding: ASCII
      - id: payload
        size: length
        type:
          switch-on: type
          cases:
            '"dpIX"': resolution
            '"teXT"': text
            '"anIM"': animation
            '"PLTE"': palette
            '"SEEK"': seek
            '"ALPH"': alpha
            '"FLAT"': flat
            '"OUTL"': outliers
            '"INDX"': plane
            '"DATA"': data
      - id: crc
        type: u4
    instances:
      is_critical:
        value: type.substring(0, 1) <= "Z"
        doc: the first letter is upper case
  resolution:
    seq:
      - id: x
        type: u4
        doc: thousandths of a dot per inch along rows
        valid:
          min: 1
      - id: y
        type: u4
        valid:
          min: 1
  text:
    seq:
      - id: parts
        type: strz
        encoding: UTF-8
        eos-error: false
        repeat: eos
        doc: key, value, key, value ...; an empty last value is not seen here
  animation:
    seq:
      - id: loop
        type: u4
        doc: how often frames are shown; 0 is for ever
      - id: durations
        type: u4
        repeat: eos
        doc: in milliseconds, of all frames or of each
  palette:
    seq:
      - id: count_less_1
        type: u1
      - id: colours
        type: colour(channels, _root.header.body.least, _root.header.body.most)
        repeat: expr
        repeat-expr: count_less_1 + 1
      - id: nothing
        size-eos: true
        valid:
          expr: _.length == 0
    instances:
      channels:
        value: _root.header.body.coded_channels + _root.header.body.alpha
  seek:
    seq:
      - id: lengths
        type: u4
        repeat: expr
        repeat-expr: _root.header.body.count
        doc: in bytes, of the chunks of each tile
      - id: nothing
        size-eos: true
        valid:
          expr: _.length == 0
  alpha:
    seq:
      - id: count_less_1
        type: u1
        valid:
          max: _root.header.body.most
      - id: levels
        type: u1
        repeat: expr
        repeat-expr: 'count_less_1 == 255 ? 0 : count_less_1 + 1'
        valid:
          expr: _ <= _root.header.body.most and (_index == 0 or _ > levels[_index - 1])
        doc: of transparency, ascending; none if all 256 are there
      - id: plane
        type: plane
  outliers:
    seq:
      - id: count_less_1
        type: u1
        valid:
          max: 254
      - id: values
        type: colour(_root.header.body.coded_channels, _root.header.body.least, _root.header.body.most)
        repeat: expr
        repeat-expr: count_less_1 + 1
        doc: of number 1 to count in the plane
      - id: plane
        type: plane
  plane:
    doc: a plane of few values, as in plane.md
    seq:
      - id: crc
        type: u4
        doc: CRC-32 of the plane, one byte for each pixel; not checked here
      - id: lane
        type: u4
        repeat: eos
        valid:
          min: '_io.eof ? 1 : 0'
        doc: the answers, in words of which the last is not 0; there may be none
  flat:
    doc: flat areas, as in flat.md, of form 1 or 2
    seq:
      - id: first
        type: u1
        valid:
          any-of: [1, 2, 3, 4, 5, 6, 7, 8, 129, 130, 131, 132, 133, 134, 135, 136]
        doc: count, and 128 more in form 2
      - id: colours
        type: colour(_root.header.body.coded_channels, _root.header.body.lo, _root.header.body.hi)
        repeat: expr
        repeat-expr: count
        doc: of number 1 to count in the map
      - id: flat_crc
        type: u4
        doc: |
          CRC-32 of first, colours and the map, one byte for each pixel, and in form 2 the blends
          likewise; not checked here
      - id: words
        type: u4
        if: form == 2
      - id: lane
        type: u4
        repeat: expr
        repeat-expr: lane_words
        valid:
          min: '_index == lane_words - 1 ? 1 : 0'
        doc: the map, in words of which the last is not 0; there may be none
      - id: blends
        type: u4
        repeat: eos
        valid:
          min: '_io.eof ? 1 : 0'
        doc: likewise, to the end of the payload; none in form 1
    instances:
      form:
        value: 'first > 128 ? 2 : 1'
      count:
        value: first % 128
        doc: of colours
      lane_words:
        value: 'form == 2 ? words : ((_io.size - _io.pos + 3) / 4)'
        doc: |
          in form 1 the rest of the payload, rounded up, so that a rest that is not whole words is
          an error; an instance, because it counts from where the lane begins
  colour:
    params:
      - id: channels
        type: s4
      - id: least
        type: s4
      - id: most
        type: s4
    seq:
      - id: samples
        type:
          switch-on: sample_type
          cases:
            0: u1
            1: s1
            2: u2
            3: s2
        repeat: expr
        repeat-expr: channels
        valid:
          min: least
          max: most
        doc: R, G and B where photometric is rgb, else one, for all channels; transparency last
    instances:
      sample_type:
        value: '(_root.header.body.bits <= 8 ? 0 : 2) + _root.header.body.signed'
        doc: 0 and 1 are one byte, 2 and 3 are two; 1 and 3 are signed
  data:
    seq:
      - id: lane_count
        type: u1
        valid:
          any-of: [1, 2, 4, 8]
      - id: lane_words
        type: u4
        repeat: expr
        repeat-expr: lane_count - 1
      - id: symbol_crc
        type: u4
      - id: lanes
        type: lane(_index)
        repeat: expr
        repeat-expr: lane_count
  lane:
    params:
      - id: number
        type: s4
    seq:
      - id: words
        type: u4
        repeat: expr
        repeat-expr: word_count
    instances:
      word_count:
        value: '(number < _parent.lane_count - 1) ? _parent.lane_words[number] : ((_io.size - _io.pos + 3) / 4)'
        doc: |
          of the last lane the rest of the payload, rounded up, so that a rest that is not whole
          words is an error. An instance, because it counts from where the lane begins: some targets
          evaluate repeat-expr again before each word.
