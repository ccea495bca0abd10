-- The demo's rows: 12 categories, 2,400 products, 1,200 users. Arithmetic instead of random numbers, so that every
-- machine has the same shop: product 1 is always the same thing at the same price.

INSERT INTO categories (id, name) VALUES
    (1, 'Kitchen'), (2, 'Lighting'), (3, 'Desks'), (4, 'Chairs'), (5, 'Garden'), (6, 'Bicycles'),
    (7, 'Outdoor'), (8, 'Audio'), (9, 'Stationery'), (10, 'Toys'), (11, 'Bath'), (12, 'Tools');

-- Each category sells 8 things, in 5 materials and 5 finishes: 200 products a category, no name twice.
WITH RECURSIVE
    things (category_id, thing, noun, base_cents) AS (VALUES
        (1, 0, 'Teapot', 3490), (1, 1, 'Frying Pan', 4950), (1, 2, 'Bread Knife', 2890), (1, 3, 'Mixing Bowl', 1990),
        (1, 4, 'Cutting Board', 2490), (1, 5, 'Coffee Mill', 6900), (1, 6, 'Salt Cellar', 1250), (1, 7, 'Ladle', 990),
        (2, 0, 'Table Lamp', 5990), (2, 1, 'Floor Lamp', 11900), (2, 2, 'Lantern', 3450), (2, 3, 'Wall Light', 4590),
        (2, 4, 'Pendant', 8900), (2, 5, 'Reading Light', 3990), (2, 6, 'Candlestick', 1890), (2, 7, 'Night Light', 1490),
        (3, 0, 'Writing Desk', 34900), (3, 1, 'Standing Desk', 59900), (3, 2, 'Corner Desk', 42900), (3, 3, 'Bureau', 48900),
        (3, 4, 'Side Table', 12900), (3, 5, 'Drawer Unit', 15900), (3, 6, 'Monitor Stand', 4900), (3, 7, 'Bookend', 1690),
        (4, 0, 'Armchair', 28900), (4, 1, 'Stool', 6900), (4, 2, 'Rocking Chair', 31900), (4, 3, 'Dining Chair', 11900),
        (4, 4, 'Office Chair', 24900), (4, 5, 'Bench', 17900), (4, 6, 'Footrest', 5900), (4, 7, 'Deck Chair', 8900),
        (5, 0, 'Watering Can', 2290), (5, 1, 'Planter', 2790), (5, 2, 'Trowel', 1390), (5, 3, 'Bird Bath', 7900),
        (5, 4, 'Trellis', 3890), (5, 5, 'Wind Chime', 1990), (5, 6, 'Compost Bin', 6490), (5, 7, 'Garden Gnome', 2190),
        (6, 0, 'Bell', 1290), (6, 1, 'Saddle', 5490), (6, 2, 'Basket', 3990), (6, 3, 'Pump', 2690),
        (6, 4, 'Mudguard', 2490), (6, 5, 'Rear Rack', 4490), (6, 6, 'Kickstand', 1890), (6, 7, 'Bottle Cage', 1590),
        (7, 0, 'Flask', 2590), (7, 1, 'Camp Stove', 7490), (7, 2, 'Hiking Pole', 4990), (7, 3, 'Mess Kit', 3290),
        (7, 4, 'Compass', 2990), (7, 5, 'Hammock', 6990), (7, 6, 'Tent Peg', 490), (7, 7, 'Whistle', 690),
        (8, 0, 'Speaker', 14900), (8, 1, 'Turntable', 39900), (8, 2, 'Headphone Stand', 3490), (8, 3, 'Radio', 8990),
        (8, 4, 'Amplifier', 45900), (8, 5, 'Microphone', 12900), (8, 6, 'Record Crate', 4290), (8, 7, 'Metronome', 3790),
        (9, 0, 'Fountain Pen', 4490), (9, 1, 'Ruler', 890), (9, 2, 'Pencil Case', 1990), (9, 3, 'Letter Opener', 1790),
        (9, 4, 'Inkwell', 2390), (9, 5, 'Stapler', 1890), (9, 6, 'Paperweight', 2190), (9, 7, 'Clipboard', 1490),
        (10, 0, 'Train', 2990), (10, 1, 'Spinning Top', 990), (10, 2, 'Puzzle', 1990), (10, 3, 'Yo-yo', 890),
        (10, 4, 'Music Box', 3490), (10, 5, 'Chess Set', 6990), (10, 6, 'Kaleidoscope', 2490), (10, 7, 'Robot', 3990),
        (11, 0, 'Soap Dish', 1290), (11, 1, 'Towel Rail', 3990), (11, 2, 'Mirror', 7490), (11, 3, 'Laundry Basket', 4490),
        (11, 4, 'Tumbler', 990), (11, 5, 'Shelf', 3490), (11, 6, 'Bath Tray', 2990), (11, 7, 'Hook', 790),
        (12, 0, 'Hammer', 2490), (12, 1, 'Plane', 6990), (12, 2, 'Chisel', 1990), (12, 3, 'Spirit Level', 2790),
        (12, 4, 'Tool Box', 4990), (12, 5, 'Clamp', 1690), (12, 6, 'Mallet', 1890), (12, 7, 'Workbench', 28900)),
    materials (material, word, percent) AS (VALUES
        (0, 'Oak', 120), (1, 'Steel', 100), (2, 'Copper', 145), (3, 'Bamboo', 80), (4, 'Walnut', 135)),
    finishes (finish, word, percent) AS (VALUES
        (0, 'Plain', 90), (1, 'Classic', 100), (2, 'Slim', 105), (3, 'Grand', 130), (4, 'Handmade', 160)),
    numbers (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM numbers WHERE id < 2400)
INSERT INTO products (id, name, price_cents, category_id, stock, sold)
SELECT numbers.id,
       finishes.word || ' ' || materials.word || ' ' || things.noun,
       -- Prices end in 95, as prices do.
       things.base_cents * materials.percent * finishes.percent / 1000000 * 100 + 95,
       things.category_id,
       numbers.id * 37 % 91,
       numbers.id * 7919 % 1009
FROM numbers
JOIN things ON things.category_id = (numbers.id - 1) % 12 + 1 AND things.thing = (numbers.id - 1) / 12 % 8
JOIN materials ON materials.material = (numbers.id - 1) / 96 % 5
JOIN finishes ON finishes.finish = (numbers.id - 1) / 480 % 5;

-- 40 given names by 30 family names: 1,200 people, no name twice.
WITH RECURSIVE
    given (number, word) AS (VALUES
        (0, 'Ada'), (1, 'Bruno'), (2, 'Chiara'), (3, 'David'), (4, 'Elif'), (5, 'Fatou'), (6, 'Gustav'), (7, 'Hana'),
        (8, 'Igor'), (9, 'Jasmin'), (10, 'Kofi'), (11, 'Lena'), (12, 'Mateo'), (13, 'Nadia'), (14, 'Oskar'), (15, 'Priya'),
        (16, 'Quentin'), (17, 'Rosa'), (18, 'Sven'), (19, 'Tomoko'), (20, 'Ugo'), (21, 'Vera'), (22, 'Wanda'), (23, 'Xavier'),
        (24, 'Yara'), (25, 'Zoltan'), (26, 'Amina'), (27, 'Benoit'), (28, 'Clara'), (29, 'Dmitri'), (30, 'Esther'), (31, 'Felix'),
        (32, 'Greta'), (33, 'Hugo'), (34, 'Ines'), (35, 'Jonas'), (36, 'Kaisa'), (37, 'Luca'), (38, 'Mira'), (39, 'Noor')),
    family (number, word) AS (VALUES
        (0, 'Adler'), (1, 'Bianchi'), (2, 'Costa'), (3, 'Diallo'), (4, 'Eriksen'), (5, 'Fischer'), (6, 'Garcia'), (7, 'Horvat'),
        (8, 'Ito'), (9, 'Jansen'), (10, 'Kowalski'), (11, 'Laurent'), (12, 'Mensah'), (13, 'Novak'), (14, 'Okafor'),
        (15, 'Petrov'), (16, 'Quist'), (17, 'Rossi'), (18, 'Sato'), (19, 'Tanaka'), (20, 'Ueda'), (21, 'Virtanen'),
        (22, 'Weber'), (23, 'Xu'), (24, 'Yilmaz'), (25, 'Zeman'), (26, 'Almeida'), (27, 'Brandt'), (28, 'Chopra'), (29, 'Dubois')),
    cities (number, word) AS (VALUES
        (0, 'Lisbon'), (1, 'Hamburg'), (2, 'Turin'), (3, 'Accra'), (4, 'Osaka'), (5, 'Prague'), (6, 'Bergen'), (7, 'Lyon'),
        (8, 'Izmir'), (9, 'Tampere'), (10, 'Pune')),
    numbers (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM numbers WHERE id < 1200)
INSERT INTO users (id, name, email, city, phone, joined)
SELECT numbers.id,
       given.word || ' ' || family.word,
       lower(given.word || '.' || family.word) || '@example.com',
       cities.word,
       CASE WHEN numbers.id % 4 = 0 THEN NULL ELSE printf('+49 555 %06d', numbers.id * 7907 % 1000000) END,
       date('2019-01-01', '+' || (numbers.id * 13 % 2400) || ' days')
FROM numbers
JOIN given ON given.number = (numbers.id - 1) % 40
JOIN family ON family.number = (numbers.id - 1) / 40
JOIN cities ON cities.number = numbers.id * 7 % 11;
