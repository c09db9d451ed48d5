/** How weights are stored and multiplied. The version is part of the id: other arithmetic, other id. */
export type RecipeId = 'f32/1' | 'q8/1' | 'q4/1' | 'i8/1'
